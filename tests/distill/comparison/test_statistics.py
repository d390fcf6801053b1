import numpy as np
import pytest

from distill.comparison.statistics import paired_difference, spread


def answers(share: float, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random((3, 800)) < share).astype(int)


def test_a_clear_gap_is_above() -> None:
    gap = paired_difference(answers(0.6, 1), answers(0.4, 2))
    assert gap.above and gap.low < gap.mean < gap.high
    assert gap.mean == pytest.approx(0.2, abs=0.05)
    assert not paired_difference(answers(0.4, 2), answers(0.6, 1)).above


def test_noise_is_not_above() -> None:
    gap = paired_difference(answers(0.5, 1), answers(0.5, 2))
    assert not gap.above and gap.low < 0 < gap.high


def test_pairing_narrows_the_interval() -> None:
    first = answers(0.5, 1)
    better = first.copy()
    better[:, :40] = 1
    paired = paired_difference(better, first)
    unpaired = paired_difference(better, first[:, ::-1])
    assert paired.above and paired.high - paired.low < unpaired.high - unpaired.low


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="equal"):
        paired_difference(answers(0.5, 1), answers(0.5, 1)[:2])


def test_balanced_accuracy_counts_every_class_the_same() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    first = np.tile(labels == 1, (3, 1)).astype(int)  # knows the rare class only
    second = 1 - first
    assert paired_difference(first, second).mean == pytest.approx(-0.8)
    gap = paired_difference(first, second, labels)
    assert gap.mean == pytest.approx(0) and (gap.low, gap.high) == pytest.approx((0, 0))


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    held = 0
    for trial in range(40):
        first, second = (rng.random((1, 200)) < share for share in (0.6, 0.5))
        gap = paired_difference(first.astype(int), second.astype(int), seed=trial)
        held += gap.low <= 0.1 <= gap.high
    assert held >= 34


def test_seeds_that_disagree_widen_the_interval() -> None:
    images = answers(0.5, 1)[:1]
    steady = paired_difference(np.ones((3, 800), int), np.tile(images, (3, 1)))
    apart = np.concatenate([np.zeros((1, 800), int), np.ones((2, 800), int)])
    assert paired_difference(apart, np.tile(images, (3, 1))).low < 0 < steady.low


def test_words() -> None:
    assert paired_difference(answers(0.6, 1), answers(0.4, 2)).verdict == "above"
    assert paired_difference(answers(0.4, 1), answers(0.6, 2)).verdict == "below"
    assert paired_difference(answers(0.5, 1), answers(0.5, 2)).verdict == "within noise"


def test_spread() -> None:
    found = spread([0.1, 0.2, 0.3])
    assert (found.mean, found.deviation, found.count) == (pytest.approx(0.2), pytest.approx(0.1), 3)
    assert spread([0.4]).deviation == 0
