"""Feature term: beside the teacher's class probabilities the student matches the teacher's features."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill.methods.feature_matching import CosineMatch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FeatureTerm:
    """The loss `own` of the first `classes` outputs with the teacher's logits, plus `weight` times 1 - cosine
    of the others, a linear projection of the student's pooled features, with the teacher's features.

    Features as a hint beside the outputs: A. Romero et al., "FitNets: Hints for Thin Deep Nets" (2015), here
    of the last layer, in the same steps, and by `CosineMatch`, which the features' length does not change.
    `columns` of the targets are those of `own`; None: as many as `classes`.
    """

    own: Callable[["Tensor", "Tensor"], "Tensor"]
    classes: int
    weight: float
    columns: int | None = None

    def __call__(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """`outputs` (n, classes + D) logits and projected features, `targets` (n, columns + D) what `own` is
        given of the teacher, and its features -> scalar, a mean over the batch where `own` is one."""
        columns = self.classes if self.columns is None else self.columns
        matched = self.own(outputs[:, : self.classes], targets[:, :columns])
        return matched + self.weight * CosineMatch()(outputs[:, self.classes :], targets[:, columns:])
