import numpy as np
import pytest

from distill.statistics import over_runs, paired_difference, spread


def answers(share: float, seed: int, runs: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).random((runs, 800)) < share


def test_one_run_has_the_doubt_of_its_images() -> None:
    right = np.array([[1] * 80 + [0] * 20])
    found = over_runs(right)
    assert found.mean == 0.8 and found.std is None and found.runs == 1
    assert found.low == pytest.approx(0.8 - 0.078, abs=0.015) and found.high == pytest.approx(
        0.878, abs=0.015
    )


@pytest.mark.parametrize("same_seeds", [True, False])
def test_balanced_accuracy_counts_every_class_the_same(same_seeds: bool) -> None:
    labels = np.array([0] * 90 + [1] * 10)
    right = np.concatenate([np.ones(90), np.zeros(10)])[None]
    assert over_runs(right).mean == pytest.approx(0.9)
    found = over_runs(right, labels)
    assert found.mean == pytest.approx(0.5) and (found.low, found.high) == pytest.approx((0.5, 0.5))
    rare, frequent = np.tile(labels == 1, (3, 1)), np.tile(labels == 0, (3, 1))
    assert paired_difference(rare, frequent, same_seeds=same_seeds).mean == pytest.approx(-0.8)
    gap = paired_difference(rare, frequent, labels, same_seeds=same_seeds)
    assert gap.mean == pytest.approx(0) and (gap.low, gap.high) == pytest.approx((0, 0))


@pytest.mark.parametrize(("classes", "images"), [(81, 1), (40, 2), (20, 5)])
def test_classes_of_few_images_say_little(classes: int, images: int) -> None:
    """Two recipes that are equally good differ beyond noise as seldom as it says."""
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(classes), images)
    wrong = 0
    for number in range(150):
        chances = rng.beta(2, 1.5, len(labels))
        pair = rng.random((2, 1, len(labels))) < chances
        wrong += not paired_difference(*pair, labels, same_seeds=False, seed=number).within_noise
    assert wrong <= 0.1 * 150


def test_one_image_more_is_within_noise() -> None:
    first = np.zeros((1, 81))
    first[0, 0] = 1
    labels = np.arange(81)
    found = paired_difference(first, np.zeros((1, 81)), labels, same_seeds=False)
    assert found.mean == pytest.approx(1 / 81) and found.within_noise and found.low < found.high
    alone = over_runs(np.ones((1, 1)), np.zeros(1))
    assert (alone.low, alone.high) == (0, 1), "a single image says nothing of others"


def test_runs_that_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    alike = rng.random((3, 2000)) < 0.7
    apart = np.stack([rng.random(2000) < chance for chance in (0.6, 0.7, 0.8)])
    narrow, wide = over_runs(alike), over_runs(apart)
    assert wide.std is not None and wide.std == pytest.approx(0.1, abs=0.02)
    assert wide.high - wide.low > 4 * (narrow.high - narrow.low)
    # three runs: t = 4.30 with two degrees of freedom, over the square root of three
    assert wide.high - wide.mean == pytest.approx(4.303 * wide.std / 3**0.5, rel=0.01)


def test_the_interval_of_three_runs_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        chances = np.clip(0.7 + 0.03 * rng.standard_normal(3), 0, 1)
        found = over_runs(rng.random((3, 300)) < chances[:, None], seed=int(rng.integers(1 << 30)))
        covered += found.low <= 0.7 <= found.high
    assert covered >= 0.92 * 200


def two_recipes(rng: np.random.Generator, images: int, trials: int) -> tuple[np.ndarray, np.ndarray]:
    """Answers (trials, 3 seeds, images) of two recipes that are equally good over all images and seeds: what
    an image is for both and for each, what a seed does to both (its labels) and to each, and chance."""

    def drawn(*shape: int) -> np.ndarray:
        return rng.standard_normal((trials, *shape), np.float32)

    both = drawn(1, images) + 0.5 * drawn(3, 1)
    first, second = (
        both + 0.4 * drawn(1, images) + 0.3 * drawn(3, 1) + 0.5 * drawn(3, images) > 0 for _ in "AB"
    )
    return first, second


def drawn_seeds_and_images(gaps: np.ndarray, rng: np.random.Generator, repeats: int = 200) -> bool:
    """Whether the 95 % interval of a bootstrap over both, with its three seeds, holds 0."""
    seeds, images = gaps.shape
    chosen = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=repeats) / seeds
    drawn = rng.integers(images, size=(repeats, images))
    low, high = np.percentile(np.take_along_axis(chosen @ gaps, drawn, axis=1).mean(axis=1), [2.5, 97.5])
    return bool(low <= 0 <= high)


def test_three_seeds_hold_no_difference_as_often_as_they_say() -> None:
    """And a bootstrap over seeds and images, which draws one of the three thrice too often, does not."""
    rng = np.random.default_rng(7)
    trials = 400
    covered = by_bootstrap = 0
    for number, (first, second) in enumerate(zip(*two_recipes(rng, 200, trials), strict=True)):
        covered += paired_difference(first, second, same_seeds=True, seed=number).within_noise
        by_bootstrap += drawn_seeds_and_images(first.astype(float) - second, rng)
    assert covered >= 0.93 * trials
    assert by_bootstrap < 0.9 * trials


def test_the_draw_of_labels_that_both_learn_from_is_no_doubt() -> None:
    rng = np.random.default_rng(2)
    narrower = 0
    for first, second in zip(*two_recipes(rng, 400, 40), strict=True):
        paired, apart = (paired_difference(first, second, same_seeds=same) for same in (True, False))
        assert paired.mean == apart.mean
        narrower += paired.high - paired.low < apart.high - apart.low
    assert narrower >= 35


def test_the_noise_of_single_answers_counts_once() -> None:
    """Where there is nothing else, the scores of the runs know all of it."""
    from scipy.stats import t

    rng = np.random.default_rng(5)
    widths, of_runs = [], []
    for number in range(40):
        pair = rng.random((2, 10, 400)) < 0.6
        gaps = (pair[0].astype(float) - pair[1]).mean(axis=1)
        found = paired_difference(*pair, same_seeds=True, seed=number)
        widths.append(found.high - found.low)
        of_runs.append(2 * t.ppf(0.975, 9) * gaps.std(ddof=1) / 10**0.5)
    assert np.mean(of_runs) < np.mean(widths) < 1.1 * np.mean(of_runs)


def test_students_t_of_the_differences_of_the_seeds() -> None:
    """Against scipy's own interval, on so many images that only seeds are in doubt."""
    from scipy.stats import t

    rng = np.random.default_rng(0)
    chances = np.array([[0.60, 0.66, 0.63], [0.58, 0.61, 0.60]])
    first, second = rng.random((2, 3, 20_000)) < chances[..., None]
    gaps = first.mean(axis=1) - second.mean(axis=1)
    low, high = t.interval(0.95, 2, gaps.mean(), gaps.std(ddof=1) / 3**0.5)
    found = paired_difference(first, second, same_seeds=True)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.002)


def test_a_difference_on_the_same_images_is_sharper_than_two_intervals() -> None:
    rng = np.random.default_rng(0)
    easy = rng.random(1000) < 0.7  # the same images are hard for both
    first, second = easy.copy(), easy.copy()
    second[np.flatnonzero(easy)[:30]] = False
    found = paired_difference(first[None], second[None], same_seeds=True)
    assert found.mean == pytest.approx(0.03) and not found.within_noise and found.low > 0.015
    one, other = over_runs(first[None]), over_runs(second[None])
    assert one.low < other.high, "the two intervals overlap"
    back = paired_difference(second[None], first[None], same_seeds=True)
    assert back.mean == pytest.approx(-0.03) and not back.within_noise


def test_chance_is_within_noise() -> None:
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(100):
        pair = rng.random((2, 1, 200)) < 0.6
        found = paired_difference(*pair, same_seeds=False, seed=int(rng.integers(1 << 30)))
        wrong += not found.within_noise
    assert wrong <= 12


def test_seeds_that_scatter_are_noise_even_with_many_images() -> None:
    rng = np.random.default_rng(0)
    first = np.stack([rng.random(20_000) < chance for chance in (0.60, 0.66, 0.63)])
    second = np.stack([rng.random(20_000) < chance for chance in (0.61, 0.59, 0.64)])
    for same in (True, False):
        one_seed = paired_difference(first[1:2], second[1:2], same_seeds=same)
        assert not one_seed.within_noise and one_seed.runs == (1, 1)
        assert paired_difference(first, second, same_seeds=same).within_noise


def test_words() -> None:
    good, bad = answers(0.7, 1), answers(0.3, 2)
    found = paired_difference(good, bad, same_seeds=True)
    assert found.above and not found.below and found.verdict == found.told == "above"
    assert found.mean == pytest.approx(0.4, abs=0.05) and found.low < found.mean < found.high
    assert paired_difference(bad, good, same_seeds=True).told == "below"
    level = paired_difference(answers(0.5, 1), answers(0.5, 2), same_seeds=True)
    assert level.within_noise and level.told == "within noise" and level.low < 0 < level.high


@pytest.mark.parametrize("runs", [(1, 1), (1, 3), (3, 1)])
def test_a_single_seed_is_told_of(runs: tuple[int, int]) -> None:
    first, second = answers(0.7, 1, runs[0]), answers(0.3, 2, runs[1])
    found = paired_difference(first, second, same_seeds=False)
    assert found.verdict == "above" and found.told == "above (a single seed: nothing is known about others)"


def test_a_difference_is_at_most_one() -> None:
    """Two seeds that contradict each other: t = 12.7 with one degree of freedom."""
    first = np.stack([np.ones(50), np.zeros(50)])
    found = paired_difference(first, 1 - first, same_seeds=True)
    assert (found.mean, found.low, found.high) == (0, -1, 1)


def test_recipes_may_have_numbers_of_runs_of_their_own() -> None:
    ones, labels = np.ones((3, 10)), np.array([0] * 5 + [1] * 5)
    found = paired_difference(ones, np.zeros((1, 10)), labels, same_seeds=False)
    assert (found.mean, found.low, found.high, found.runs) == (1.0, 1.0, 1.0, (3, 1))


def test_what_can_not_be_compared() -> None:
    with pytest.raises(ValueError, match="the same images"):
        paired_difference(np.ones((1, 3)), np.ones((1, 4)), same_seeds=True)
    with pytest.raises(ValueError, match="the same seeds, got 3 and 2"):
        paired_difference(np.ones((3, 4)), np.ones((2, 4)), same_seeds=True)
    with pytest.raises(ValueError, match="expected 3 labels"):
        over_runs(np.ones((1, 3)), np.zeros(4))
    with pytest.raises(ValueError, match="runs, images"):
        over_runs(np.ones(3))


def test_spread() -> None:
    found = spread([0.1, 0.2, 0.3])
    assert (found.mean, found.std, found.runs) == (pytest.approx(0.2), pytest.approx(0.1), 3)
    assert found.percent == "20.0 ± 10.0"
    assert spread([0.4]).std is None and spread([0.4]).percent == "40.0"
