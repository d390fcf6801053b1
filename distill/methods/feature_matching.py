"""Task-agnostic transfer: the student matches the teacher's features, whatever the task.

Every loss takes `outputs` (n, d), the student's features projected to the teacher's dimension, and `targets`
(n, d), the teacher's features of the same views, and gives a scalar. None depends on the length of the
teacher's features, which differs from model to model by orders of magnitude.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class CosineMatch:
    """1 - cosine, mean over the batch: only the direction counts. 0 where the directions are the same."""

    def __call__(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Loss of features (n, d) against (n, d) -> scalar."""
        import torch.nn.functional as F

        return (1 - F.cosine_similarity(outputs.float(), targets.float(), dim=1)).mean()


@dataclass(frozen=True)
class SmoothL1Match:
    """Smooth L1 (quadratic up to a difference of 1, linear beyond), mean over batch and dimensions, to the
    teacher's features scaled to a root mean square of 1 each. 0 where the student gives these."""

    def __call__(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Loss of features (n, d) against (n, d) -> scalar."""
        import torch.nn.functional as F

        scaled = F.normalize(targets.float(), dim=1) * targets.shape[1] ** 0.5
        return F.smooth_l1_loss(outputs.float(), scaled)


@dataclass(frozen=True)
class ContrastiveMatch:
    """InfoNCE in the batch: a view's two features are to be closer to each other than to those of the other
    images, by cosine over `temperature`; mean of both directions.

    A. van den Oord et al., "Representation Learning with Contrastive Predictive Coding" (2018); both
    directions as in CLIP (A. Radford et al., 2021). What counts is only which images are alike, so an image
    that stands in a batch twice pulls against itself.
    """

    temperature: float = 0.07

    def __call__(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Loss of features (n, d) against (n, d) -> scalar; 0 for n = 1, which has nothing to contrast."""
        import torch
        import torch.nn.functional as F

        student, teacher = F.normalize(outputs.float(), dim=1), F.normalize(targets.float(), dim=1)
        similarities = student @ teacher.T / self.temperature
        own = torch.arange(len(similarities), device=similarities.device)
        return (F.cross_entropy(similarities, own) + F.cross_entropy(similarities.T, own)) / 2
