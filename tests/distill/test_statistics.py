import numpy as np
import pytest

from distill.statistics import over_runs, paired_difference


def test_one_run_has_the_doubt_of_its_images() -> None:
    right = np.array([[1] * 80 + [0] * 20])
    found = over_runs(right)
    assert found.mean == 0.8 and found.std is None and found.runs == 1
    assert found.low == pytest.approx(0.8 - 0.078, abs=0.015) and found.high == pytest.approx(
        0.878, abs=0.015
    )


def test_balanced_accuracy_counts_every_class_the_same() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    right = np.concatenate([np.ones(90), np.zeros(10)])[None]
    assert over_runs(right).mean == pytest.approx(0.9)
    found = over_runs(right, labels)
    assert found.mean == pytest.approx(0.5) and (found.low, found.high) == pytest.approx((0.5, 0.5))


def test_runs_that_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    alike = rng.random((3, 2000)) < 0.7
    apart = np.stack([rng.random(2000) < chance for chance in (0.6, 0.7, 0.8)])
    narrow, wide = over_runs(alike), over_runs(apart)
    assert wide.std is not None and wide.std == pytest.approx(0.1, abs=0.02)
    assert wide.high - wide.low > 4 * (narrow.high - narrow.low)
    # three runs: t = 4.30 with two degrees of freedom, over the square root of three
    assert wide.high - wide.mean == pytest.approx(4.303 * wide.std / 3**0.5, rel=0.05) or wide.high == 1.0


def test_the_interval_of_three_runs_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        chances = np.clip(0.7 + 0.03 * rng.standard_normal(3), 0, 1)
        found = over_runs(rng.random((3, 300)) < chances[:, None], seed=int(rng.integers(1 << 30)))
        covered += found.low <= 0.7 <= found.high
    assert covered >= 0.92 * 200


def test_a_difference_on_the_same_images_is_sharper_than_two_intervals() -> None:
    rng = np.random.default_rng(0)
    easy = rng.random(1000) < 0.7  # the same images are hard for both
    first, second = easy.copy(), easy.copy()
    second[np.flatnonzero(easy)[:30]] = False
    found = paired_difference(first[None], second[None])
    assert found.mean == pytest.approx(0.03) and not found.within_noise and found.low > 0.015
    one, other = over_runs(first[None]), over_runs(second[None])
    assert one.low < other.high, "the two intervals overlap"
    back = paired_difference(second[None], first[None])
    assert back.mean == pytest.approx(-0.03) and not back.within_noise


def test_chance_is_within_noise() -> None:
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(100):
        first, second = rng.random((2, 1, 200)) < 0.6
        wrong += not paired_difference(first, second, seed=int(rng.integers(1 << 30))).within_noise
    assert wrong <= 12


def test_seeds_that_scatter_are_noise_even_with_many_images() -> None:
    rng = np.random.default_rng(0)
    first = np.stack([rng.random(20_000) < chance for chance in (0.60, 0.66, 0.63)])
    second = np.stack([rng.random(20_000) < chance for chance in (0.61, 0.59, 0.64)])
    one_seed = paired_difference(first[1:2], second[1:2])
    assert not one_seed.within_noise and one_seed.runs == (1, 1)
    assert paired_difference(first, second).within_noise


def test_recipes_may_have_numbers_of_runs_of_their_own() -> None:
    ones, labels = np.ones((3, 10)), np.array([0] * 5 + [1] * 5)
    found = paired_difference(ones, np.zeros((1, 10)), labels)
    assert (found.mean, found.low, found.high, found.runs) == (1.0, 1.0, 1.0, (3, 1))


def test_what_can_not_be_compared() -> None:
    with pytest.raises(ValueError, match="the same images"):
        paired_difference(np.ones((1, 3)), np.ones((1, 4)))
    with pytest.raises(ValueError, match="expected 3 labels"):
        over_runs(np.ones((1, 3)), np.zeros(4))
    with pytest.raises(ValueError, match="runs, images"):
        over_runs(np.ones(3))
