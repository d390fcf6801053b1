"""Dual head: one classifier matches the teacher, a second one over the same student learns the labels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

UNLABELLED = -1


@dataclass(frozen=True)
class DualHead:
    """The loss `own` of the first `classes` outputs with the teacher, plus `weight` times the cross-entropy
    of the others with the labels, mean over the labelled images.

    The second mean is over an epoch: of each batch it is the sum divided by the number of labelled images
    that the batch holds on average, `share` of its images. So every labelled image counts the same whichever
    batch it is in, and a batch without any gives 0.
    """

    own: Callable[["Tensor", "Tensor"], "Tensor"]
    classes: int
    weight: float
    share: float

    def __call__(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """`outputs` (n, classes + C) logits, `targets` (n, width + 1) as `with_label_column` gives them ->
        scalar."""
        import torch.nn.functional as F

        labels = targets[:, -1].long()
        supervised = F.cross_entropy(
            outputs[:, self.classes :].float(), labels, ignore_index=UNLABELLED, reduction="sum"
        )
        matched = self.own(outputs[:, : self.classes], targets[:, :-1])
        return matched + self.weight / (self.share * len(labels)) * supervised


def with_label_column(targets: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The teacher's answers (n, width) and class numbers (n,), -1 where there is none, as one array (n, width
    + 1) float32, exact up to 2^24 classes."""
    return np.concatenate([targets.astype(np.float32), labels[:, None].astype(np.float32)], axis=1)
