"""Retention: a student learns something more without forgetting what it said before."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from distill.methods.task_oriented import TaskOriented

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Retention:
    """The loss `own` with the labels, plus `weight` times KL(before || now) of the class probabilities.

    As in memory-retaining finetuning (Yang et al., "Memory-Retaining Finetuning via Distillation", 2024), on
    the images of finetuning. The second part is 0 as long as the student says what it said before.
    """

    own: Callable[["Tensor", "Tensor"], "Tensor"]
    weight: float

    def __call__(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """`outputs` (n, C) logits, `targets` (n, 1 + C) as `with_labels` gives them -> scalar."""
        labels, before = targets[:, 0].long(), targets[:, 1:]
        return self.own(outputs, labels) + self.weight * TaskOriented()(outputs, before)


def with_labels(labels: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Class numbers (n,) and the logits before (n, C) as one array (n, 1 + C) float32, exact up to 2^24
    classes."""
    return np.concatenate([labels[:, None].astype(np.float32), before.astype(np.float32)], axis=1)
