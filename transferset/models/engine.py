"""What the engines have in common that can run a frozen model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import nn

    from transferset.models.backbone import Backbone

RunBatch = Callable[[np.ndarray], np.ndarray]
"""(batch_size, size, size, 3) uint8 to (batch_size, dimension) float32, both its own."""


class CannotRun(Exception):
    """An engine is missing, or cannot run the model as asked; the message says why in a few words, `hint`
    what to do."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Setup:
    """How a model is to be run: images of one run, `cpu` or a GPU, CPU threads (None: the engine's choice)
    and the precision `f32`, `bf16`, `f16` (None: the fastest that keeps the model's features)."""

    batch_size: int
    device: str
    threads: int | None = None
    precision: str | None = None


@dataclass(frozen=True)
class Opened:
    """An engine that is ready: the function, its precision, and the version of its library.

    `cosine` is the smallest one between its features and those of eager torch in f32 on test images; 1 where
    it is just that. `seconds` is what its first run took, where that was measured.
    """

    run: RunBatch
    precision: str
    version: str
    cosine: float = 1.0
    seconds: float | None = None


def normalising(backbone: Backbone) -> nn.Module:
    """The module from (n, size, size, 3) uint8 to features: cast, normalise, run."""
    import torch

    class Normalised(torch.nn.Module):
        scale: torch.Tensor
        shift: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            mean = torch.tensor(backbone.preprocessing.mean).reshape(1, 3, 1, 1)
            std = torch.tensor(backbone.preprocessing.std).reshape(1, 3, 1, 1)
            self.register_buffer("scale", 1 / (255 * std))
            self.register_buffer("shift", mean / std)
            self.inner = backbone.module

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            pixels = images.permute(0, 3, 1, 2).to(self.scale.dtype)
            features: torch.Tensor = self.inner(pixels * self.scale - self.shift)
            return features

    return Normalised().eval()
