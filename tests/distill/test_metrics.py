"""Metrics against numbers worked out by hand."""

import json
import math

import numpy as np
import pytest
from scipy.stats import binomtest

from distill.metrics import (
    classification_metrics,
    expected_calibration_error,
    log_softmax,
    metrics_from_dict,
    weighted_interval,
    wilson_interval,
)

# Four answers, the second of them wrong.
PROBABILITIES = np.array([[0.82, 0.18], [0.62, 0.38], [0.29, 0.71], [0.91, 0.09]])
LABELS = np.array([0, 1, 1, 0])


def logits_of(probabilities: np.ndarray, shift: float = 3.0) -> np.ndarray:
    """Logits that stand for these probabilities."""
    logits: np.ndarray = np.log(probabilities) + shift
    return logits


def certain(predicted: list[int], classes: int) -> np.ndarray:
    """Logits of these answers, all of them nearly certain."""
    return np.eye(classes)[predicted] * 50.0


def test_four_answers_by_hand() -> None:
    found = classification_metrics(logits_of(PROBABILITIES), LABELS, ("cat", "dog"))
    assert found.n == 4
    assert found.top1 == 3 / 4
    cat, dog = found.per_class["cat"], found.per_class["dog"]
    assert (cat.support, cat.recall, cat.precision) == (2, 1.0, pytest.approx(2 / 3))
    assert (dog.support, dog.recall, dog.precision) == (2, 0.5, 1.0)
    assert found.balanced_accuracy == 0.75
    assert found.nll == pytest.approx(-math.log(0.82 * 0.38 * 0.71 * 0.91) / 4)
    # Every confidence is in a bin of its own: the mean of |confidence - right|.
    assert found.ece == pytest.approx((0.18 + 0.62 + 0.29 + 0.09) / 4)


def test_calibration_errors_of_one_bin_cancel() -> None:
    """0.82 and 0.85 share the bin from 12/15 to 13/15: right once, so the bin is off by 0.67 of two
    images."""
    probabilities = np.array([[0.82, 0.18], [0.85, 0.15]])
    found = expected_calibration_error(logits_of(probabilities), np.array([0, 1]))
    assert found == pytest.approx((0.82 + 0.85 - 1) / 2)


def test_certainty_falls_into_the_last_bin() -> None:
    assert expected_calibration_error(certain([0, 0], 3), np.array([0, 0])) == pytest.approx(0, abs=1e-12)
    assert expected_calibration_error(certain([0, 0], 3), np.array([1, 1])) == pytest.approx(1)


def test_a_class_without_images_does_not_count_in_the_balanced_accuracy() -> None:
    labels = np.array([0] * 8 + [1] * 2)
    found = classification_metrics(certain([0] * 8 + [1, 2], 4), labels, ("a", "b", "c", "d"))
    assert found.top1 == 0.9
    assert found.balanced_accuracy == pytest.approx((1 + 0.5) / 2)
    called, never = found.per_class["c"], found.per_class["d"]
    assert (called.support, called.recall, called.recall_interval, called.precision) == (0, None, None, 0.0)
    assert (never.support, never.recall, never.recall_interval, never.precision) == (0, None, None, None)


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (1, 1, 0.2065, 1.0),
        (5, 10, 0.2366, 0.7634),
    ],
)
def test_the_wilson_interval(right: int, count: int, low: float, high: float) -> None:
    assert wilson_interval(right / count, count) == pytest.approx((low, high), abs=5e-5)


def test_the_wilson_interval_is_scipys_and_holds_its_share() -> None:
    for count in (1, 2, 7, 30, 1000):
        for right in {0, 1, count // 3, count - 1, count}:
            low, high = wilson_interval(right / count, count)
            expected = binomtest(right, count).proportion_ci(method="wilson")
            assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)
            assert 0 <= low <= right / count <= high <= 1


def test_a_weighted_share_is_as_sure_as_its_images_of_equal_weight() -> None:
    even, uneven = np.full(40, 1 / 40), np.repeat([0.5 / 36, 0.5 / 4], [36, 4])
    assert weighted_interval(0.7, even) == pytest.approx(wilson_interval(0.7, 40))
    wide, wider = weighted_interval(0.7, uneven), wilson_interval(0.7, 4)
    assert wider[0] < wide[0] < weighted_interval(0.7, even)[0]
    assert weighted_interval(0.7, 3 * uneven) == pytest.approx(wide)


def test_the_interval_of_the_balanced_accuracy_takes_no_class_for_certain() -> None:
    """10 of 10 and 5 of 10, as 11 of 12 and 6 of 12: variances 11/144 and 1/4 of ten images each."""
    labels = np.repeat([0, 1], 10)
    found = classification_metrics(certain([0] * 15 + [1] * 5, 2), labels, ("a", "b"))
    assert found.balanced_accuracy == 0.75
    half = 1.96 * math.sqrt((11 / 144 + 1 / 4) / 10) / 2
    assert found.balanced_accuracy_interval == pytest.approx((0.75 - half, 0.75 + half), abs=1e-4)


@pytest.mark.parametrize(("classes", "images", "recall"), [(20, 3, 0.9), (40, 1, 0.6), (7, 30, 0.8)])
def test_the_interval_of_the_balanced_accuracy_holds_its_share(
    classes: int, images: int, recall: float
) -> None:
    rng = np.random.default_rng(0)
    labels, names = np.repeat(np.arange(classes), images), tuple(map(str, range(classes)))
    covered = 0
    for _ in range(150):
        chances = rng.beta(6 * recall, 6 * (1 - recall), classes)
        right = rng.random(len(labels)) < chances[labels]
        found = classification_metrics(
            certain(np.where(right, labels, (labels + 1) % classes).tolist(), classes), labels, names
        )
        low, high = found.balanced_accuracy_interval
        covered += low <= chances.mean() <= high
    assert covered >= 0.9 * 150


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_huge_logits_stay_finite(kind: type) -> None:
    largest = np.finfo(kind).max
    logits = np.array([[largest, -largest], [-largest, largest]], dtype=kind)
    if kind is not np.float64:  # whose largest difference no float can hold
        assert np.isfinite(log_softmax(logits)).all()
    assert np.exp(log_softmax(logits / 4)).sum(axis=1) == pytest.approx([1, 1])
    assert classification_metrics(logits / 4, np.array([0, 1]), ("a", "b")).top1 == 1


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (np.zeros((0, 2)), np.zeros(0, int)),
        (np.zeros((3, 2)), np.zeros(2, int)),
        (np.zeros((2, 3)), np.zeros(2, int)),
        (np.zeros(2), np.zeros(2, int)),
        (np.array([[0.0, np.nan]]), np.array([0])),
        (np.array([[0.0, np.inf]]), np.array([0])),
        (np.zeros((2, 2)), np.array([0, -1])),
        (np.zeros((2, 2)), np.array([0, 2])),
    ],
)
def test_what_cannot_be_measured_is_refused(logits: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected logits|must be"):
        classification_metrics(logits, labels, ("a", "b"))


def test_metrics_survive_a_file() -> None:
    found = classification_metrics(logits_of(PROBABILITIES), LABELS, ("cat", "dog"))
    written = json.loads(json.dumps(found.to_dict()))
    assert written == found.to_dict()
    assert metrics_from_dict(written) == found


@pytest.mark.parametrize(
    "change",
    [
        {"top1": "high"},
        {"ece": None},
        {"n": [4]},
        {"top1_interval": [0.1]},
        {"balanced_accuracy_interval": None},
        {"per_class": [1, 2]},
        {"per_class": {"cat": None}},
        {"per_class": {"cat": {"support": 1}}},
    ],
)
def test_other_files_are_told_from_metrics(change: dict[str, object]) -> None:
    found = classification_metrics(logits_of(PROBABILITIES), LABELS, ("cat", "dog")).to_dict()
    with pytest.raises((KeyError, TypeError, ValueError)):
        metrics_from_dict({**found, **change})
    del found["nll"]
    with pytest.raises(KeyError):
        metrics_from_dict(found)
