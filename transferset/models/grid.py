"""What a backbone says of every part of an image: a grid of features beside the one vector of the whole."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from transferset.errors import UsageError
from transferset.models.backbone import Backbone

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class GridShape:
    """`summary`: length of the vector of the whole image; `channels`: of that of a place in the grid, which
    has `side` x `side` places."""

    summary: int
    channels: int
    side: int

    @property
    def width(self) -> int:
        """Of summary and grid in one row."""
        return self.summary + self.channels * self.side**2


def grid_shape(module: nn.Module, size: int, name: str) -> GridShape:
    """The shape for images (3, size, size), found by running the model, which is called `name` in errors.

    Raises UsageError for a model without a square grid of at least 2 x 2 places.
    """
    import torch

    device = next(module.parameters()).device
    training = module.training
    module.eval()
    with torch.no_grad():
        found = summary_and_grid(module, torch.zeros(1, 3, size, size, device=device))
    module.train(training)
    if found is None or found[1].shape[2] != found[1].shape[3]:
        raise UsageError(
            f"{name} gives no grid of features for the parts of an image",
            hint="choose a convnet or vision transformer of timm, or leave --feature-loss patches out",
        )
    summary, grid = found
    if grid.shape[2] < 2:
        raise UsageError(
            f"the grid of {name} has one place for images of {size} pixels", hint="take larger images"
        )
    return GridShape(summary.shape[1], grid.shape[1], grid.shape[2])


def summary_and_grid(module: nn.Module, images: Tensor) -> tuple[Tensor, Tensor] | None:
    """Features of the whole images (n, d) as the model gives them, and of their parts (n, channels, h, w),
    from one pass; None where the model has none of the latter.

    Models of timm by `forward_features` and `forward_head`, also inside an open_clip tower; open_clip's own
    vision transformers by their output tokens.
    """
    model: Any = module
    if hasattr(model, "trunk") and hasattr(model, "head"):  # open_clip's TimmModel
        found = summary_and_grid(model.trunk, images)
        return None if found is None else (model.head(found[0]), found[1])
    if hasattr(model, "forward_features") and hasattr(model, "forward_head"):
        features = model.forward_features(images)
        grid = _as_grid(features, int(model.num_features), int(getattr(model, "num_prefix_tokens", 0)))
        return None if grid is None else (model.forward_head(features), grid)
    if hasattr(model, "output_tokens") and hasattr(model, "transformer"):
        before, model.output_tokens = model.output_tokens, True
        try:
            summary, tokens = model(images)
        finally:
            model.output_tokens = before
        grid = _as_grid(tokens, tokens.shape[-1], 0)
        return None if grid is None else (summary, grid)
    return None


def _as_grid(features: object, channels: int, prefix: int) -> Tensor | None:
    import torch

    if not isinstance(features, torch.Tensor):
        return None
    if features.ndim == 4 and features.shape[1] == channels:
        return features
    if features.ndim == 4 and features.shape[3] == channels:
        return features.permute(0, 3, 1, 2)
    if features.ndim != 3:
        return None
    tokens = features[:, prefix:]
    places = int(tokens.shape[1])
    side = math.isqrt(places)
    return tokens.transpose(1, 2).unflatten(2, (side, side)) if side * side == places else None


def with_grid(backbone: Backbone) -> tuple[Backbone, GridShape]:
    """The backbone whose features are summary and grid in one row, the grid flattened as (channels, side,
    side): it runs on every runtime like any other. Raises as `grid_shape` does."""
    import torch

    shape = grid_shape(backbone.module, backbone.preprocessing.size, str(backbone.spec))

    class WithGrid(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = backbone.module

        def forward(self, images: Tensor) -> Tensor:
            found = summary_and_grid(self.inner, images)
            assert found is not None
            summary, grid = found
            return torch.cat([summary, grid.flatten(1)], dim=1)

    module = WithGrid().eval().requires_grad_(False)
    return replace(backbone, module=module, dimension=shape.width), shape
