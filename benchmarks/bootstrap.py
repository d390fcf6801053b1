"""Paired bootstrap over test images and seeds."""

from dataclasses import dataclass

import numpy as np

REPEATS = 10_000


@dataclass(frozen=True)
class Difference:
    """Mean of A - B with its 95 % interval, in the units of what was compared."""

    mean: float
    low: float
    high: float

    @property
    def above(self) -> bool:
        """Whether A lies above B: the interval excludes 0."""
        return self.low > 0


def paired_difference(first: np.ndarray, second: np.ndarray, seed: int = 0) -> Difference:
    """The difference of two methods' accuracies from (seeds, images) arrays of right (1) and wrong (0).

    Cell (s, i) of both arrays is the same test image under the same seed. Seeds and images are drawn with
    replacement, both levels in every repeat, and the two methods keep their pairing (Efron and Tibshirani,
    1993, percentile interval).
    """
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(f"expected two equal (seeds, images) arrays, got {first.shape} and {second.shape}")
    gaps = first.astype(np.float64) - second.astype(np.float64)
    seeds, images = gaps.shape
    random = np.random.default_rng(seed)
    means = np.empty(REPEATS)
    for repeat in range(REPEATS):
        weights = np.bincount(random.integers(images, size=images), minlength=images)
        rows = random.integers(seeds, size=seeds)
        means[repeat] = (gaps[rows] @ weights).mean() / images
    low, high = np.percentile(means, [2.5, 97.5])
    return Difference(float(gaps.mean()), float(low), float(high))
