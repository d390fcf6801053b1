"""Supervised training: the student learns the labels."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Supervised:
    """Mean cross-entropy with the labels, softened by `label_smoothing` (Szegedy et al., 2016), an image of
    class c counting `class_weights[c]` times."""

    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None

    def __call__(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """`outputs` (n, C) logits, `targets` (n,) class numbers -> scalar."""
        import torch
        import torch.nn.functional as F

        if self.class_weights is None:
            return F.cross_entropy(outputs.float(), targets, label_smoothing=self.label_smoothing)
        losses = F.cross_entropy(
            outputs.float(), targets, label_smoothing=self.label_smoothing, reduction="none"
        )
        weights = torch.tensor(self.class_weights, dtype=losses.dtype, device=losses.device)
        return (losses * weights[targets]).mean()


def balanced_weights(labels: np.ndarray, classes: int) -> tuple[float, ...]:
    """What an image of each class counts so that every class that `labels` (n,) has counts the same, and n
    images n times; 0 for the others."""
    counts = np.bincount(labels, minlength=classes)
    share = len(labels) / np.count_nonzero(counts)
    return tuple(float(share / count) if count else 0.0 for count in counts)
