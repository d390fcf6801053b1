"""How sure scores and their differences are, for other images and for other runs (seeds).

`distill.metrics` has the interval of one model's score; here several runs of a recipe, and two recipes on the
same images, are looked at. Two sources of doubt are joined as if they were independent, by the square root of
the sum of squares of their half-widths: images, by a percentile bootstrap of what the runs get right on
average (Efron and Tibshirani, 1993), and runs, by Student's t. A bootstrap over three runs would draw the
same run thrice too often and come out too narrow.

Let run s be right on image i by d + a_s + b_i + e_si: what is sought, what a run does to all images, what all
runs make of an image, and the rest. Over S runs and n images the mean has the variance A/S + B/n + E/(Sn).
The scores of the runs differ by A + E/n, where b cancels, for all runs see the same images, so that Student's
part is A/S + E/(Sn). The bootstrap finds B/n + E/(Sn): the noise E/(Sn) of single answers would count twice.
It is known well, from how S n answers differ from what their run and their image make of them, and is taken
out of the images' part.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

REPEATS = 4_000
ONE_SEED = "a single seed: nothing is known about others"


@dataclass(frozen=True)
class Difference:
    """Mean of A - B with its 95 % interval, as a share of 1. `runs`: of A and B."""

    mean: float
    low: float
    high: float
    runs: tuple[int, int]

    @property
    def above(self) -> bool:
        """Whether A lies above B: the interval excludes 0."""
        return self.low > 0

    @property
    def below(self) -> bool:
        """Whether A lies below B."""
        return self.high < 0

    @property
    def within_noise(self) -> bool:
        """Whether the interval holds 0: these images and runs don't say which is better."""
        return not self.above and not self.below

    @property
    def verdict(self) -> str:
        """In words."""
        return "above" if self.above else "below" if self.below else "within noise"

    @property
    def knows_runs(self) -> bool:
        """Whether the interval holds for other runs too, and not only for other images."""
        return min(self.runs) > 1

    @property
    def told(self) -> str:
        """The verdict, and that it says nothing of other seeds where it is that of a single one."""
        return self.verdict if self.knows_runs else f"{self.verdict} ({ONE_SEED})"


@dataclass(frozen=True)
class Spread:
    """A mean and the standard deviation `std` over runs (n - 1; None: a single one)."""

    mean: float
    std: float | None
    runs: int

    @property
    def percent(self) -> str:
        """As tables have it: 45.1 ± 1.4."""
        return f"{100 * self.mean:.1f}" + ("" if self.std is None else f" ± {100 * self.std:.1f}")


@dataclass(frozen=True)
class OverRuns(Spread):
    """A score over several runs, with the 95 % interval of its mean for other images and other runs."""

    low: float
    high: float


def spread(scores: Sequence[float] | np.ndarray) -> Spread:
    """Of at least one score."""
    found = np.asarray(scores, np.float64)
    return Spread(float(found.mean()), float(found.std(ddof=1)) if len(found) > 1 else None, len(found))


def over_runs(right: np.ndarray, labels: np.ndarray | None = None, seed: int = 0) -> OverRuns:
    """The score of runs on the same n images, from `right` (runs, n), 1 where a run is right and else 0.

    With `labels` (n,) it is balanced accuracy, else top-1. For balanced accuracy images are drawn within
    their class.
    """
    right = _checked(right, labels)
    scores = _scores(right, labels)
    found = spread(scores)
    low, high = _over_images([right], labels, seed)
    low, high = _joined(found.mean, low, high, *_variance(scores))
    return OverRuns(found.mean, found.std, found.runs, max(0.0, low), min(1.0, high))


def paired_difference(
    first: np.ndarray,
    second: np.ndarray,
    labels: np.ndarray | None = None,
    *,
    same_seeds: bool,
    seed: int = 0,
) -> Difference:
    """The difference of two recipes' scores from (runs, n) arrays of right (1) and wrong (0) on the same n
    images. With `labels` (n,) of balanced accuracy, as in `over_runs`, else of top-1.

    The images are paired in every repeat of the bootstrap, which takes out that some are hard for everyone.
    `same_seeds`: so are the runs, row s of both being the same draw of labels and the same seed; Student's t
    is then that of the runs' differences (n - 1 degrees of freedom), which takes out what a draw of labels
    does to both. Otherwise each recipe may have runs of its own number: the variances of their means add up,
    with the degrees of freedom of the smaller one. With one run of a recipe the doubt is that of images (and
    of the other's runs) alone: another seed may do otherwise, and `told` says so.
    """
    first, second = _checked(first, labels), _checked(second, labels)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"expected the same images, got {first.shape[1]} and {second.shape[1]}")
    if same_seeds and len(first) != len(second):
        raise ValueError(f"expected the same seeds, got {len(first)} and {len(second)}")
    scores = _scores(first, labels), _scores(second, labels)
    mean = float(scores[0].mean() - scores[1].mean())
    low, high = _over_images([first - second] if same_seeds else [first, -second], labels, seed)
    parts = [_variance(one) for one in ([scores[0] - scores[1]] if same_seeds else scores)]
    several = [freedom for _, freedom in parts if freedom]
    low, high = _joined(mean, low, high, sum(variance for variance, _ in parts), min(several, default=0))
    return Difference(mean, max(-1.0, low), min(1.0, high), (len(first), len(second)))


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


def _over_images(recipes: list[np.ndarray], labels: np.ndarray | None, seed: int) -> tuple[float, float]:
    """The 95 % percentile interval, for other images, of the sum of the recipes' means over (runs, n) values,
    or over classes, without the noise of single answers (see above).

    A few runs give an image one of a few values: how often each is drawn is multinomial, and n images need
    not be drawn one by one. What is drawn are deviations from the mean, which are wider than in the sample by
    √(n / (n - 1)), since that mean is the sample's own; a class of one image takes those of the other
    classes.
    """
    random = np.random.default_rng(seed)
    values = np.sum([runs.mean(axis=0) for runs in recipes], axis=0)
    rows = [np.arange(len(values))]
    if labels is not None:
        rows = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    known = [_deviations(values[own]) for own in rows if len(own) > 1]
    of_others = np.concatenate(known) if known else _deviations(values)
    found, noise, drawn = 0.0, 0.0, np.zeros(REPEATS)
    for own in rows:
        deviations = _deviations(values[own]) if len(own) > 1 else of_others
        kinds, counts = np.unique(deviations, return_counts=True)
        times = random.multinomial(len(own), counts / counts.sum(), size=REPEATS)
        drawn += times @ kinds / (len(own) * len(rows))
        found += float(np.mean(deviations**2)) / len(own)
        noise += sum(_noise(runs[:, own]) for runs in recipes) / len(own)
    alone = math.sqrt(max(0.0, 1 - noise / found)) if found else 1.0
    mean = float(np.mean([values[own].mean() for own in rows]))
    low, high = mean + alone * np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def _noise(runs: np.ndarray) -> float:
    """Of values (runs, n), what is neither their run's nor their image's: its variance in the mean of the
    runs; 0 where it can't be told from what is the image's."""
    several, images = runs.shape
    if several < 2 or images < 2:
        return 0.0
    rest = runs - runs.mean(axis=0) - runs.mean(axis=1, keepdims=True) + runs.mean()
    return float((rest**2).sum()) / ((several - 1) * (images - 1)) / several


def _deviations(values: np.ndarray) -> np.ndarray:
    """From the mean, for as wide a spread as images that were not seen have; of one value nothing is
    known."""
    if len(values) < 2:
        return np.array([-1.0, 1.0])
    deviations: np.ndarray = (values - values.mean()) * math.sqrt(len(values) / (len(values) - 1))
    return deviations


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
