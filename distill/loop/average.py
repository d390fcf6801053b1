"""The moving average of a student's weights, which is what is scored and kept."""

from typing import TYPE_CHECKING

from timm.utils import ModelEmaV3

if TYPE_CHECKING:
    from torch import Tensor, nn


class Average(ModelEmaV3):
    """timm's `ModelEmaV3` with its tensors looked up once: on a CPU, walking through two modules' names takes
    as long as a tenth of a small student's step."""

    def __init__(self, module: "nn.Module", decay: float) -> None:
        super().__init__(module, decay=decay, use_warmup=True)
        pairs = list(zip(_tensors(self.module), _tensors(module), strict=True))
        self._floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self._others = [pair for pair in pairs if not pair[0].is_floating_point()]

    def apply_update_(self, model: "nn.Module", decay: float) -> None:
        """Move by 1 - `decay` towards the module that was given at the start; whole numbers are copied."""
        import torch

        if self._floats:
            average, now = zip(*self._floats, strict=True)
            torch._foreach_lerp_(average, now, weight=1.0 - decay)
        if self._others:
            average, now = zip(*self._others, strict=True)
            torch._foreach_copy_(average, now)


def _tensors(module: "nn.Module") -> "list[Tensor]":
    """What `state_dict` holds, as it is in the module: a change of it in place is seen."""
    return list(module.state_dict(keep_vars=True).values())
