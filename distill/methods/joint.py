"""Joint distillation: a student with one head for each of several teachers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Joint:
    """The mean, weighted by `weights`, of the losses of every head with its teacher: `losses[i]` of
    `outputs_widths[i]` neighbouring outputs with `targets_widths[i]` neighbouring targets.

    As in H. Wang et al., "SAM-CLIP: Merging Vision Foundation Models towards Semantic and Spatial
    Understanding" (2023), whose rehearsal weights keep what a model has learnt from one teacher while it
    learns from the next; every teacher looks at the same images here.
    """

    losses: tuple[Callable[["Tensor", "Tensor"], "Tensor"], ...]
    outputs_widths: tuple[int, ...]
    targets_widths: tuple[int, ...]
    weights: tuple[float, ...]

    def __call__(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """`outputs` (n, sum of widths) logits, `targets` (n, sum of widths) -> scalar."""
        import torch

        parts = zip(
            self.losses,
            outputs.split(self.outputs_widths, dim=1),
            targets.split(self.targets_widths, dim=1),
            self.weights,
            strict=True,
        )
        losses = [weight * loss(own, target) for loss, own, target, weight in parts]
        return torch.stack(losses).sum() / sum(self.weights)
