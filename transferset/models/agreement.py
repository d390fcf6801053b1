"""Whether an engine gives the features of a model: a few test images on both."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from transferset.models.engine import RunBatch

if TYPE_CHECKING:
    from torch import nn

MIN_COSINE = 0.999
SAMPLE_IMAGES = 8
_LEAVES = 120


@lru_cache(maxsize=4)
def sample_images(size: int) -> np.ndarray:
    """(SAMPLE_IMAGES, size, size, 3) uint8, seeded; don't write to it.

    "Dead leaves", shaded discs over one another in sizes of a power law, have the statistics of photographs
    (A. Lee, D. Mumford, J. Huang, "Occlusion Models for Natural Images", IJCV 2001). They are harder on low
    precision than photographs, so the check errs on the safe side.
    """
    generator = np.random.default_rng(0)
    y, x = np.mgrid[0:size, 0:size] / size
    images = np.zeros((SAMPLE_IMAGES, size, size, 3), np.uint8)
    for image in images:
        canvas = np.zeros((size, size, 3))
        for _ in range(_LEAVES):
            radius = 0.02 / generator.uniform(0.02, 1)
            row, column = generator.uniform(-0.1, 1.1, 2)
            colour, slope = generator.uniform(0, 255, 3), generator.uniform(-60, 60, (2, 3))
            inside = (y - row) ** 2 + (x - column) ** 2 < radius**2
            offsets = np.stack([y[inside] - row, x[inside] - column], axis=1)
            canvas[inside] = colour + offsets @ slope
        noise = generator.normal(0, generator.uniform(0, 12), canvas.shape)
        image[:] = np.clip(canvas + noise, 0, 255).astype(np.uint8)
    return images


def reference(module: nn.Module, images: np.ndarray, device: str = "cpu") -> np.ndarray:
    """Features (n, d) float32 of eager torch in f32."""
    import torch

    with torch.no_grad():
        features: np.ndarray = module(torch.from_numpy(images).to(device)).float().cpu().numpy()
    return features


def compare(run: RunBatch, batch_size: int, expected: np.ndarray, size: int) -> tuple[float, float]:
    """The smallest cosine between `expected` and what `run` gives for the test images, and how many seconds
    its first batch took."""
    images = sample_images(size)
    features, seconds = [], 0.0
    for start in range(0, len(images), batch_size):
        some = images[start : start + batch_size]
        padded = np.zeros((batch_size, *images.shape[1:]), np.uint8)
        padded[: len(some)] = some
        begun = time.perf_counter()
        features.append(run(padded)[: len(some)])
        seconds = seconds or time.perf_counter() - begun
    return worst_cosine(np.concatenate(features), expected), seconds


def worst_cosine(features: np.ndarray, expected: np.ndarray) -> float:
    """The smallest cosine between rows of two (n, d) arrays."""
    norms = np.linalg.norm(features, axis=1) * np.linalg.norm(expected, axis=1)
    return float(np.min(np.sum(features * expected, axis=1) / np.maximum(norms, 1e-12)))
