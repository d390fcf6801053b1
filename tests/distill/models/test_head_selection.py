"""How a head is chosen: who judges, what is never seen by whom, and what is told."""

import numpy as np
import pytest

from distill.metrics import negative_log_likelihood
from distill.models.head_selection import (
    STRENGTHS,
    Choice,
    LabelledFeatures,
    choose_head,
    held_out_folds,
    why_val_does_not_suffice,
)
from distill.models.heads import fit_heads
from transferset.errors import DataError

DIMENSION = 12


def clouds(counts: list[int], seed: int, spread: float = 0.8, views: int = 1) -> LabelledFeatures:
    """Images of classes that lie around a direction each, the same ones for every seed."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    noise = rng.normal(size=(len(labels), views, DIMENSION)) * spread
    return LabelledFeatures((np.eye(DIMENSION)[labels][:, None] + noise).astype(np.float32), labels)


def choose(train: LabelledFeatures, val: LabelledFeatures | None = None, **values: object) -> Choice:
    options = {"classes": 3, "class_weight": "none", "folds": 5, "seed": 0, **values}
    return choose_head(train, val, **options)  # type: ignore[arg-type]


def test_val_judges_and_only_the_temperature_is_fitted_on_it() -> None:
    train, val = clouds([20, 20, 20], seed=0), clouds([15, 15, 15], seed=1)
    found = choose(train, val)
    assert found.judged_on == "val"
    assert [trial.strength for trial in found.trials] == list(STRENGTHS)
    assert found.chosen.loss == pytest.approx(min(trial.loss for trial in found.trials), abs=1e-6)
    assert np.array_equal(found.labels, val.labels)
    assert found.head.temperature == found.chosen.temperature
    np.testing.assert_allclose(
        found.head.logits(val.features[:, 0]) * found.chosen.temperature, found.logits, rtol=1e-4, atol=1e-4
    )
    assert found.chosen.top1 == np.mean(found.logits.argmax(axis=1) == val.labels)
    assert found.chosen.nll_before == pytest.approx(negative_log_likelihood(found.logits, val.labels))
    weights = [
        choose(train, clouds([15, 15, 15], seed=seed)).head.weight
        for seed in (1, 2)
        if choose(train, clouds([15, 15, 15], seed=seed)).chosen.strength == found.chosen.strength
    ]
    assert weights
    assert all(np.array_equal(weight, found.head.weight) for weight in weights)


def test_without_val_every_image_is_judged_once_by_a_head_that_did_not_see_it() -> None:
    """Labels that have nothing to do with the images are learnt by heart, never foretold."""
    rng = np.random.default_rng(0)
    noise = LabelledFeatures(rng.normal(size=(60, 1, 200)).astype(np.float32), np.arange(60) % 3)
    found = choose(noise)
    assert found.judged_on == "cross-validation, 5 folds"
    assert np.array_equal(found.labels, noise.labels)
    assert all(trial.top1 < 0.6 for trial in found.trials), "chance is a third"
    weak = choose(noise).head.logits(noise.features[:, 0])
    assert np.mean(weak.argmax(axis=1) == noise.labels) > 0.9, "the final head has seen them all"


def test_the_same_seed_chooses_the_same_head() -> None:
    train = clouds([9, 9, 9], seed=3)
    first, again, other = (choose(train, seed=seed) for seed in (7, 7, 8))
    assert np.array_equal(first.head.weight, again.head.weight)
    assert first.trials == again.trials
    assert first.trials != other.trials


@pytest.mark.parametrize(
    ("counts", "weight", "why"),
    [
        ([10, 10, 10], "none", None),
        ([20, 20, 0], "none", None),
        ([30, 0, 0], "none", "images of only 1 of the 3 classes"),
        ([10, 10, 9], "none", "only 29 images for 3 classes"),
        ([26, 2, 2], "none", None),
        ([26, 4, 0], "balanced", "its smallest class has 4 images"),
        ([25, 5, 0], "balanced", None),
        ([], "none", "images of only 0 of the 3 classes"),
    ],
)
def test_a_tiny_val_does_not_judge(counts: list[int], weight: str, why: str | None) -> None:
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    found = why_val_does_not_suffice(labels, 3, weight)
    assert found is None if why is None else why in str(found)


def test_many_classes_need_two_val_images_each() -> None:
    assert why_val_does_not_suffice(np.repeat(np.arange(50), 2), 50, "none") is None
    assert "99 images for 50 classes" in str(
        why_val_does_not_suffice(np.repeat(np.arange(50), 2)[1:], 50, "none")
    )


def test_folds_take_over_from_a_val_that_does_not_suffice() -> None:
    train, val = clouds([8, 8, 8], seed=0), clouds([2, 2, 2], seed=1)
    assert choose(train, val).judged_on == "cross-validation, 5 folds"
    assert choose(train, val).trials == choose(train).trials, "it has no say at all"


def test_the_only_image_of_a_class_is_never_held_out() -> None:
    train = clouds([6, 6, 1], seed=0)
    folds = held_out_folds(train.labels, 5, 0)
    assert folds[-1] == -1
    assert (folds[:-1] >= 0).all()
    found = choose(train)
    assert len(found.labels) == len(found.logits) == 12
    assert found.head.weight.shape == (3, DIMENSION), "but the head knows it"


def test_no_more_folds_than_images_of_the_largest_class() -> None:
    assert choose(clouds([2, 2, 2], seed=0)).judged_on == "cross-validation, 2 folds"
    assert choose(clouds([4, 3, 3], seed=0), folds=10).judged_on == "cross-validation, 4 folds"


def test_one_image_a_class_cannot_be_judged() -> None:
    with pytest.raises(DataError, match="nothing can be held out") as error:
        choose(clouds([1, 1, 1], seed=0))
    assert "two images per class" in str(error.value.hint)
    assert choose(clouds([1, 1, 1], seed=0), clouds([10, 10, 10], seed=1)).judged_on == "val"


def test_balanced_weights_favour_rare_classes() -> None:
    train, val = clouds([60, 60, 4], seed=0), clouds([20, 20, 20], seed=1)

    def rare(class_weight: str) -> float:
        logits = choose(train, val, class_weight=class_weight).logits
        return float(np.mean(logits[val.labels == 2].argmax(axis=1) == 2))

    assert rare("balanced") > rare("none") + 0.1


def test_every_view_teaches_and_only_the_first_is_judged() -> None:
    train, two = clouds([8, 8, 8], seed=0), clouds([8, 8, 8], seed=0, views=2)
    same = LabelledFeatures(np.repeat(train.features, 2, axis=1), train.labels)
    np.testing.assert_allclose(choose(same).logits, choose(train).logits, atol=0.02)
    spoilt = LabelledFeatures(two.features.copy(), two.labels)
    spoilt.features[:, 1] = np.roll(spoilt.features[:, 0], 5, axis=0)
    assert choose(spoilt).chosen.loss > choose(two).chosen.loss


def ids(*numbers: int) -> np.ndarray:
    return np.array([[number] * 16 for number in numbers], dtype=np.uint8).reshape(-1, 16)


def test_what_is_kept_is_fitted_as_what_was_judged() -> None:
    """Along the strengths, each fit from the one before: by itself a strong one stops elsewhere."""
    train = clouds([9, 9, 9], seed=0, spread=0.3)
    found = choose(train)
    assert found.judged_on.startswith("cross-validation")
    again = found.refit(train, 3, "none")
    assert np.array_equal(again.weight, found.head.weight) and np.array_equal(again.bias, found.head.bias)
    path = list(fit_heads(train.features, train.labels, np.ones(27), STRENGTHS, 3))
    assert np.array_equal(found.head.weight, path[STRENGTHS.index(found.chosen.strength)].weight)
