"""Tiny students and batches for tests of the loop."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from distill.data.batches import Batch
from distill.loop.checkpoints import Checkpoints
from distill.loop.hooks import Hooks
from distill.loop.ledger import Ledger
from distill.loop.mode import PLAIN, Mode
from distill.loop.recipe import Recipe
from distill.loop.trainer import Trainer
from distill.models.student import Student
from transferset.models.preprocessing import Preprocessing

SMALL = Preprocessing(8, "shortest", 1.0, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
COUNT = np.zeros(4, dtype=np.int64)


class Toy(nn.Sequential):
    """Its last layer is its classifier."""

    def get_classifier(self) -> nn.Module:
        return self[-1]


class Limited(Toy):
    """Has memory for no more than `most` images at once in training."""

    most = 2
    error: type[Exception] | Exception = torch.OutOfMemoryError

    def forward(self, images: torch.Tensor) -> Any:
        if self.training and len(images) > self.most:
            super().forward(images)  # as far as the running statistics
            raise self.error
        return super().forward(images)


def student(kind: type[Toy] = Toy, *, norm: bool = True) -> Student:
    """Convolution, batch norm and dropout: buffers, memory formats and random numbers all matter."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8) if norm else nn.Identity(), nn.ReLU()]
    module = kind(*layers, nn.Dropout(0.3 if norm else 0.0), nn.Flatten(), nn.Linear(288, 2))
    return Student(module.to(memory_format=torch.channels_last), SMALL, ("a", "b"), "toy")


def batch_of(step: int) -> Batch:
    rng = np.random.default_rng(step)
    images = rng.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    labels = (images[..., 0].mean(axis=(1, 2)) > images[..., 1].mean(axis=(1, 2))).astype(np.int64)
    return Batch(step, COUNT, COUNT, COUNT + step, images, COUNT > 0, None, labels)


def trainer_of(
    directory: Path,
    recipe: Recipe,
    log: list[dict[str, Any]] | None = None,
    *,
    of: Student | None = None,
    mode: Mode = PLAIN,
    **hooks: Any,
) -> Trainer:
    def stream(step: int) -> Generator[Batch]:
        yield from map(batch_of, range(step, recipe.steps))

    lines: list[dict[str, Any]] = [] if log is None else log
    given = {"stream": stream, "method": nn.functional.cross_entropy, "log": lines.append, **hooks}
    return Trainer(of or student(), recipe, Hooks(**given), Checkpoints(directory), Ledger(), mode)


def weights_of(trainer: Trainer) -> list[torch.Tensor]:
    return [*trainer.module.state_dict().values(), *trainer.average.module.state_dict().values()]


def same(first: Trainer, second: Trainer) -> bool:
    """Whether two students and their averages are bitwise the same."""
    pairs = zip(weights_of(first), weights_of(second), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)
