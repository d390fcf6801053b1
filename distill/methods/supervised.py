"""Supervised training: the student learns the labels."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Supervised:
    """Mean cross-entropy with the labels, softened by `label_smoothing` (Szegedy et al., 2016)."""

    label_smoothing: float = 0.0

    def __call__(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """`outputs` (n, C) logits, `targets` (n,) class numbers -> scalar."""
        import torch.nn.functional as F

        return F.cross_entropy(outputs.float(), targets, label_smoothing=self.label_smoothing)
