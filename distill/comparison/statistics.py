"""Whether a difference is more than noise: paired bootstrap over test images and seeds."""

from dataclasses import dataclass

import numpy as np

REPEATS = 10_000
_CHUNK = 500


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

    @property
    def below(self) -> bool:
        """Whether A lies below B."""
        return self.high < 0

    @property
    def verdict(self) -> str:
        """In words."""
        return "above" if self.above else "below" if self.below else "within noise"


def paired_difference(
    first: np.ndarray, second: np.ndarray, labels: np.ndarray | None = None, seed: int = 0
) -> Difference:
    """The difference of two methods' accuracies from (seeds, images) arrays of right (1) and wrong (0).

    Cell (s, i) of both arrays is the same test image under the same seed. Seeds and images are drawn with
    replacement, both levels in every repeat, and the two methods keep their pairing (Efron and Tibshirani,
    1993, percentile interval). With the images' class numbers `labels` (images,) it is balanced accuracy that
    is compared: images are drawn within their class, and every class counts the same.

    With one seed the interval knows of the images only, and with two or three it knows little of seeds.
    """
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(f"expected two equal (seeds, images) arrays, got {first.shape} and {second.shape}")
    gaps = first.astype(np.float64) - second.astype(np.float64)
    seeds, images = gaps.shape
    if labels is not None and labels.shape != (images,):
        raise ValueError(f"expected a label for each of {images} images, got {labels.shape}")
    if seeds == 0 or images == 0:
        raise ValueError("nothing to compare: no seed or no image")
    groups = [np.arange(images)]
    if labels is not None:
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    random = np.random.default_rng(seed)
    means = np.concatenate(
        [_drawn(gaps, groups, min(_CHUNK, REPEATS - start), random) for start in range(0, REPEATS, _CHUNK)]
    )
    low, high = np.percentile(means, [2.5, 97.5])
    mean = np.mean([gaps[:, group].mean() for group in groups])
    return Difference(float(mean), float(low), float(high))


def _drawn(
    gaps: np.ndarray, groups: list[np.ndarray], repeats: int, random: np.random.Generator
) -> np.ndarray:
    """Means (repeats,) over drawn seeds and images; groups of images count the same."""
    seeds = len(gaps)
    chosen = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=repeats) / seeds
    means = np.zeros(repeats)
    for group in groups:
        count = len(group)
        values = chosen @ gaps[:, group]
        drawn = random.integers(count, size=(repeats, count))
        means += np.take_along_axis(values, drawn, axis=1).mean(axis=1)
    return means / len(groups)


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1; 0 for one value) over seeds."""

    mean: float
    deviation: float
    count: int


def spread(values: list[float]) -> Spread:
    """Of at least one value."""
    found = np.array(values, np.float64)
    deviation = float(found.std(ddof=1)) if len(found) > 1 else 0.0
    return Spread(float(found.mean()), deviation, len(found))
