"""A student that is being taught patches: its features of the whole and of the parts, as the teacher's."""

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from distill.models.student import Student, reset_classifier
from transferset.models.grid import GridShape, grid_shape, summary_and_grid

if TYPE_CHECKING:
    from torch import Tensor, nn

_INNER, _PROJECTION = "inner.", "projection.weight"


def patch_student(student: Student, shape: GridShape, seed: int) -> Student:
    """The student whose module gives rows of the teacher's `shape`: of the whole by its classifier, which
    becomes a projection, of the parts by a projection of every place (a 1x1 convolution), both at random,
    seeded. Its grid is averaged down to the teacher's. Its own module stays within, as `inner`.

    Raises UsageError for a student without a grid.
    """
    import torch
    import torch.nn.functional as F

    own = grid_shape(student.module, student.preprocessing.size, student.spec)
    reset_classifier(student.module, shape.summary, seed)

    class PatchStudent(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = student.module
            self.projection = torch.nn.Conv2d(own.channels, shape.channels, 1)

        def forward(self, images: "Tensor") -> "Tensor":
            found = summary_and_grid(self.inner, images)
            assert found is not None
            summary, grid = found
            if grid.shape[2] != shape.side:
                grid = F.adaptive_avg_pool2d(grid, shape.side)
            return torch.cat([summary, self.projection(grid).flatten(1)], dim=1)

    device = next(student.module.parameters()).device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = PatchStudent()
    return replace(student, module=module.to(device))


def patch_shape(weights: Mapping[str, "Tensor"], head: Collection[str], width: int) -> GridShape | None:
    """The shape of the rows that a patch student with these weights gives, `width` long; `head`: names of the
    last layer's parameters in its own module. None: they are not those of a patch student."""
    projection = weights.get(_PROJECTION)
    summary = next((len(weights[f"{_INNER}{name}"]) for name in head if f"{_INNER}{name}" in weights), None)
    if projection is None or summary is None:
        return None
    channels = len(projection)
    return GridShape(summary, channels, math.isqrt((width - summary) // channels))


def without_projection(student: Student) -> Student:
    """The inverse: the student as it was, trained."""
    return replace(student, module=cast("nn.Module", cast(Any, student.module).inner))
