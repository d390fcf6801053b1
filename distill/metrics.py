"""How well class probabilities fit labels: accuracy, balanced accuracy, calibration, and how sure that is."""

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import special

Interval = tuple[float, float]

CALIBRATION_BINS = 15
_SHARES = ("recall", "precision")
_Z95 = 1.959963984540054


@dataclass(frozen=True)
class ClassMetrics:
    """One class: its images (`support`), the share of them that was found (`recall`, with its 95 % interval)
    and the share of right ones among the images called so (`precision`); None where there is no such
    image."""

    support: int
    recall: float | None
    recall_interval: Interval | None
    precision: float | None


@dataclass(frozen=True)
class ClassificationMetrics:
    """Metrics over n images. Intervals are at 95 %. `balanced_accuracy` is the mean recall of the classes
    that have images, `ece` the expected calibration error, `nll` the mean negative log likelihood in nats."""

    n: int
    top1: float
    top1_interval: Interval
    balanced_accuracy: float
    balanced_accuracy_interval: Interval
    ece: float
    nll: float
    per_class: dict[str, ClassMetrics]

    def to_dict(self) -> dict[str, Any]:
        """As JSON types: what comes out of a file again is equal."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


def metrics_from_dict(values: dict[str, Any]) -> ClassificationMetrics:
    """The inverse of `to_dict`. KeyError, TypeError or ValueError where `values` are none."""

    def interval(pair: Any) -> Interval:
        low, high = map(float, pair)
        return low, high

    def one(entry: dict[str, Any]) -> ClassMetrics:
        recall, precision = (None if entry[name] is None else float(entry[name]) for name in _SHARES)
        found = None if entry["recall_interval"] is None else interval(entry["recall_interval"])
        return ClassMetrics(int(entry["support"]), recall, found, precision)

    numbers = {name: float(values[name]) for name in ("top1", "balanced_accuracy", "ece", "nll")}
    intervals = {name: interval(values[name]) for name in ("top1_interval", "balanced_accuracy_interval")}
    per_class = {str(name): one(entry) for name, entry in dict(values["per_class"]).items()}
    return ClassificationMetrics(n=int(values["n"]), per_class=per_class, **numbers, **intervals)  # type: ignore[arg-type]


def classification_metrics(
    logits: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]
) -> ClassificationMetrics:
    """Metrics of finite logits (n, C) against labels (n,), numbers of `classes`; n must be at least 1."""
    from sklearn.metrics import confusion_matrix

    if logits.shape != (len(labels), len(classes)) or not len(labels):
        raise ValueError(
            f"expected logits (n >= 1, {len(classes)}) for {len(labels)} labels, got {logits.shape}"
        )
    if not np.isfinite(logits).all():
        raise ValueError("logits must be finite")
    if labels.min() < 0 or labels.max() >= len(classes):
        raise ValueError(f"labels must be numbers below {len(classes)}, got {labels.min()} to {labels.max()}")
    predicted = logits.argmax(axis=1)
    counts = confusion_matrix(labels, predicted, labels=np.arange(len(classes)))
    right, support, called = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    per_class = {
        name: ClassMetrics(
            support=int(support[number]),
            recall=_share(right[number], support[number]),
            recall_interval=_interval(right[number], support[number]),
            precision=_share(right[number], called[number]),
        )
        for number, name in enumerate(classes)
    }
    balanced, balanced_interval = _mean_recall(per_class)
    return ClassificationMetrics(
        n=len(labels),
        top1=float(right.sum() / len(labels)),
        top1_interval=wilson_interval(right.sum() / len(labels), len(labels)),
        balanced_accuracy=balanced,
        balanced_accuracy_interval=balanced_interval,
        ece=expected_calibration_error(logits, labels),
        nll=negative_log_likelihood(logits, labels),
        per_class=per_class,
    )


def wilson_interval(share: float, count: float) -> Interval:
    """95 % score interval of a probability, for the share of successes seen in `count` >= 1 trials.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference" (1927): unlike the
    normal approximation it is right for few trials and for shares of 0 and 1.
    """
    spread = _Z95**2 / count
    centre = (share + spread / 2) / (1 + spread)
    half = _Z95 * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, float(min(share, centre - half))), min(1.0, float(max(share, centre + half)))


def weighted_interval(share: float, weights: np.ndarray) -> Interval:
    """95 % interval of a weighted share, such as balanced accuracy, of images that count `weights` (n,): that
    of as many images of equal weight as would vary as much (L. Kish, "Survey Sampling", 1965)."""
    return wilson_interval(share, float(weights.sum() ** 2 / (weights**2).sum()))


def _mean_recall(per_class: dict[str, ClassMetrics]) -> tuple[float, Interval]:
    """Mean recall and its interval, from the variances of the classes with one success and one failure added
    to each: R. M. Price, D. G. Bonett, "An improved confidence interval for a linear function of binomial
    proportions" (2004). So a class of a few images that are all right is not taken for certain."""
    found = [one for one in per_class.values() if one.recall is not None]
    recall = np.array([one.recall for one in found], dtype=np.float64)
    support = np.array([one.support for one in found], dtype=np.float64)
    smoothed = (recall * support + 1) / (support + 2)
    half = _Z95 * math.sqrt(float(np.sum(smoothed * (1 - smoothed) / support))) / len(found)
    mean = float(recall.mean())
    return mean, (max(0.0, mean - half), min(1.0, mean + half))


def expected_calibration_error(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean gap between confidence and accuracy over 15 equally wide bins of the largest probability, weighted
    by their images. C. Guo et al., "On Calibration of Modern Neural Networks" (2017)."""
    log_probabilities = log_softmax(logits)
    confidence = np.exp(log_probabilities.max(axis=1))
    right = log_probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=confidence - right, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(labels))


def negative_log_likelihood(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log probability of the labels (n,) in nats."""
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log probabilities (n, C) float64 of logits (n, C)."""
    log_probabilities: np.ndarray = special.log_softmax(logits.astype(np.float64), axis=1)
    return log_probabilities


def _interval(part: int, whole: int) -> Interval | None:
    return wilson_interval(part / whole, int(whole)) if whole else None


def _share(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None
