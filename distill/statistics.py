"""How sure scores and their differences are: bootstrap over images, and the spread of runs.

`distill.metrics` has the interval of one model's score; here several runs (seeds) of a recipe, and two
models on the same images, are looked at.
"""

import math
from dataclasses import dataclass

import numpy as np

REPEATS = 4_000
_AT_ONCE = 250


@dataclass(frozen=True)
class Difference:
    """Mean of A - B with its 95 % interval, as a share of 1. `runs`: of A and B."""

    mean: float
    low: float
    high: float
    runs: tuple[int, int]

    @property
    def within_noise(self) -> bool:
        """Whether the interval holds 0: these images and runs don't say which is better."""
        return self.low <= 0 <= self.high


@dataclass(frozen=True)
class OverRuns:
    """A score over several runs: `mean`, `std` between runs (None: a single one), and the 95 % interval of
    the mean for other images and other runs."""

    mean: float
    std: float | None
    low: float
    high: float
    runs: int


def over_runs(right: np.ndarray, labels: np.ndarray | None = None, seed: int = 0) -> OverRuns:
    """The score of runs on the same n images, from `right` (runs, n), 1 where a run is right and else 0.

    With `labels` (n,) it is balanced accuracy, else top-1. Two sources of doubt are joined as independent
    ones (square root of the sum of squares of the half-widths): images, by a percentile bootstrap of what the
    runs get right on average, stratified by class for balanced accuracy (Efron and Tibshirani, 1993); and
    runs, by Student's t. A bootstrap over three runs would draw the same run thrice too often and come out
    too narrow.
    """
    right = _checked(right, labels)
    scores = _scores(right, labels)
    mean = float(scores.mean())
    low, high = _over_images(right.mean(axis=0), labels, seed)
    spread, freedom = _variance(scores)
    low, high = _joined(mean, low, high, spread, freedom)
    std = float(scores.std(ddof=1)) if len(scores) > 1 else None
    return OverRuns(mean, std, max(0.0, low), min(1.0, high), len(scores))


def paired_difference(
    first: np.ndarray, second: np.ndarray, labels: np.ndarray | None = None, seed: int = 0
) -> Difference:
    """The difference of two recipes' scores from (runs, n) arrays of right (1) and wrong (0) on the same n
    images; each may have runs of its own number.

    With `labels` (n,) of balanced accuracy, else of top-1. The images stay paired in every repeat of the
    bootstrap, which takes out that some are hard for everyone; runs, where there are several, as in
    `over_runs`. With one run of each, the doubt is that of images alone: another seed may do otherwise.
    """
    first, second = _checked(first, labels), _checked(second, labels)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"expected the same images, got {first.shape[1]} and {second.shape[1]}")
    scores = _scores(first, labels), _scores(second, labels)
    mean = float(scores[0].mean() - scores[1].mean())
    low, high = _over_images(first.mean(axis=0) - second.mean(axis=0), labels, seed)
    parts = [_variance(one) for one in scores]
    several = [freedom for _, freedom in parts if freedom]
    low, high = _joined(mean, low, high, sum(spread for spread, _ in parts), min(several, default=0))
    return Difference(mean, low, high, (len(first), len(second)))


def _checked(right: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    if right.ndim != 2 or not right.size:
        raise ValueError(f"expected a (runs, images) array, got {right.shape}")
    if labels is not None and labels.shape != right.shape[1:]:
        raise ValueError(f"expected {right.shape[1]} labels, got {labels.shape}")
    return right.astype(np.float64)


def _scores(right: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    """The score of each run, (runs,)."""
    if labels is None:
        return np.asarray(right.mean(axis=1))
    return np.mean([right[:, labels == label].mean(axis=1) for label in np.unique(labels)], axis=0)


def _over_images(values: np.ndarray, labels: np.ndarray | None, seed: int) -> tuple[float, float]:
    """The 95 % percentile interval of the mean of `values` (n,), or of the mean over classes."""
    random = np.random.default_rng(seed)
    groups = [values] if labels is None else [values[labels == label] for label in np.unique(labels)]
    means = np.zeros(REPEATS)
    for group in groups:
        for start in range(0, REPEATS, _AT_ONCE):
            drawn = random.integers(len(group), size=(min(_AT_ONCE, REPEATS - start), len(group)))
            means[start : start + _AT_ONCE] += group[drawn].mean(axis=1) / len(groups)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _variance(scores: np.ndarray) -> tuple[float, int]:
    """The variance of the mean of runs, and its degrees of freedom (0: a single run says nothing)."""
    if len(scores) < 2:
        return 0.0, 0
    return float(scores.var(ddof=1)) / len(scores), len(scores) - 1


def _joined(mean: float, low: float, high: float, variance: float, freedom: int) -> tuple[float, float]:
    if not freedom:
        return low, high
    from scipy.stats import t

    half = float(t.ppf(0.975, freedom)) * math.sqrt(variance)
    return mean - math.hypot(mean - low, half), mean + math.hypot(high - mean, half)
