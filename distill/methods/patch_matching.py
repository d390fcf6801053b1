"""Task-agnostic transfer of patches: the student matches the teacher's features of every part of an image."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from distill.methods.feature_matching import CosineMatch

if TYPE_CHECKING:
    from torch import Tensor

    from transferset.models.grid import GridShape


@dataclass(frozen=True)
class PatchMatch:
    """The mean of two losses by cosine: of the features of the whole image, and of those of every place of
    the grid. 0 where all directions are the same.

    As in M. Ranzinger et al., "AM-RADIO: Agglomerative Vision Foundation Model" (2024), which matches summary
    and spatial features, both by cosine. `summary`, `channels`: how a row is divided, as in `GridShape`.
    """

    summary: int
    channels: int

    def __call__(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Rows (n, summary + channels * places) against the same -> scalar."""
        summary, channels = self.summary, self.channels

        def places(rows: "Tensor") -> "Tensor":
            grid = rows[:, summary:].unflatten(1, (channels, -1))
            return grid.transpose(1, 2).flatten(0, 1)

        whole = CosineMatch()(outputs[:, :summary], targets[:, :summary])
        return (whole + CosineMatch()(places(outputs), places(targets))) / 2


def resampled(rows: np.ndarray, shape: "GridShape", side: int) -> np.ndarray:
    """Rows (n, width) of summary and grid with the grid averaged down to `side` places a side, as adaptive
    pooling does it."""
    import torch
    import torch.nn.functional as F

    if side == shape.side:
        return rows
    grid = rows[:, shape.summary :].reshape(len(rows), shape.channels, shape.side, shape.side)
    smaller = F.adaptive_avg_pool2d(torch.from_numpy(np.ascontiguousarray(grid)), side)
    return np.concatenate([rows[:, : shape.summary], smaller.flatten(1).numpy()], axis=1)
