"""Learning curves: what is a point of them, and what they say of more labels and more pool images."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distill.comparison.answers import Row
from distill.comparison.curves import answers, label_curves, set_curves
from distill.comparison.recipe import Recipe
from distill.comparison.recipe_file import read_recipe
from tests.distill.comparison.made_up import a_recipe, a_row, of_seeds


def with_sets(**sets: dict[str, str]) -> Recipe:
    values: dict[str, Any] = {
        "task": "task",
        "labels": [10],
        "teacher": {"spec": "embedded"},
        "student": {"spec": "timm:test_efficientnet@none"},
        "transfer_sets": sets,
    }
    return read_recipe(Path("recipe.yaml"), values)


def on_set(name: str, share: float, images: float, labels: str = "10") -> Row:
    """A row taught on a transfer set of so many images."""
    row = a_row("task-oriented", name, labels, share)
    works = {
        seed: replace(one, work=replace(one.work, set_images=images))  # type: ignore[type-var]
        for seed, one in row.outcomes.items()
    }
    return replace(row, outcomes=works)


SERIES = with_sets(
    small={"path": "s", "series": "pool"}, large={"path": "l", "series": "pool"}, other={"path": "o"}
)


def test_a_label_curve_is_one_way_at_several_budgets() -> None:
    rows = [
        a_row("task-oriented", "retrieved", "20", 0.7),
        a_row("task-oriented", "random", "5", 0.4),
        a_row("task-oriented", "retrieved", "5", 0.4),
        a_row("labels-only", "", "5", 0.3),
    ]
    [curve] = label_curves(rows)
    assert (curve.name, curve.over) == ("task-oriented + retrieved", "labels")
    assert curve.sizes == (15, 60), "of three classes, ascending"
    assert curve.rows == (rows[2], rows[0])
    step = curve.last_step
    assert step is not None and (step.first, step.second) == (rows[0], rows[2])


@pytest.mark.parametrize("method", ["task-oriented", "task-agnostic"])
def test_a_set_curve_is_over_sets_of_one_series_with_the_same_labels(method: str) -> None:
    rows = [on_set("large", 0.6, 400), on_set("small", 0.5, 100), on_set("other", 0.5, 50)]
    rows = [replace(row, key=(method, *row.key[1:])) for row in rows]
    fewer = on_set("small", 0.4, 100, labels="5")
    [curve] = set_curves([*rows, fewer], SERIES)
    assert (curve.name, curve.over) == (f"{method} + large (10 labels per class)", "pool images")
    assert curve.sizes == (100, 400) and curve.rows == (rows[1], rows[0])


def test_sets_of_one_size_are_no_curve() -> None:
    assert set_curves([on_set("small", 0.5, 100), on_set("large", 0.6, 100)], SERIES) == []
    assert set_curves([on_set("small", 0.5, 100), on_set("large", 0.6, 0)], SERIES) == []


@pytest.mark.parametrize(
    ("shares", "verdict"), [((0.4, 0.7), "yes"), ((0.5, 0.5), "can't tell"), ((0.7, 0.4), "no")]
)
def test_would_more_labels_help(shares: tuple[float, float], verdict: str) -> None:
    rows = [a_row("task-oriented", "retrieved", labels, share) for labels, share in zip(("5", "20"), shares)]
    labels, pool = answers(rows, a_recipe([5, 20]))
    assert labels.verdict == verdict and labels.per_doubling is not None
    assert labels.per_doubling[0] == pytest.approx((shares[1] - shares[0]) / 2, abs=0.03)  # two doublings
    assert pool.verdict == "can't tell" and pool.per_doubling is None


@pytest.mark.parametrize(
    ("shares", "verdict"), [((0.4, 0.7), "yes"), ((0.5, 0.5), "can't tell"), ((0.7, 0.4), "no")]
)
def test_would_more_pool_images_help(shares: tuple[float, float], verdict: str) -> None:
    rows = [on_set("small", shares[0], 100), on_set("large", shares[1], 800)]
    recipe = with_sets(small={"path": "s", "series": "pool"}, large={"path": "l", "series": "pool"})
    labels, pool = answers(rows, recipe)
    assert pool.verdict == verdict and "from 100 to 800 pool images" in pool.sentence
    assert pool.per_doubling is not None
    assert pool.per_doubling[0] == pytest.approx((shares[1] - shares[0]) / 3, abs=0.03)  # three doublings
    low, high = pool.per_doubling[1:]
    assert (low > 0, high < 0) == (verdict == "yes", verdict == "no")
    assert labels.verdict == "can't tell" and "several label budgets" in labels.sentence


def test_budgets_of_the_same_images_are_one_point_of_a_curve() -> None:
    rows = [a_row("task-oriented", "retrieved", labels, share) for labels, share in (("5", 0.4), ("20", 0.7))]
    again = replace(rows[1], key=(*rows[1].key[:3], "500"))
    labels, _ = answers([*rows, again], a_recipe([5, 20, 500]))
    assert labels.verdict == "yes"
    labels, _ = answers([rows[1], again], a_recipe([20, 500]))
    assert labels.verdict == "can't tell" and labels.per_doubling is None


def test_sizes_without_a_seed_in_common_cannot_be_told_apart() -> None:
    rows = [
        of_seeds(a_row("task-oriented", "retrieved", labels, 0.5), seed)
        for labels, seed in (("5", 0), ("20", 1))
    ]
    labels, _ = answers(rows, a_recipe([5, 20]))
    assert (labels.verdict, labels.per_doubling) == ("can't tell", None)
    assert "no seed in common" in labels.sentence


def test_nothing_can_be_told_of_no_rows() -> None:
    assert [one.verdict for one in answers([], a_recipe([10]))] == ["can't tell", "can't tell"]


def test_one_seed_says_so() -> None:
    rows = [
        of_seeds(a_row("task-oriented", "retrieved", labels, share), 0)
        for labels, share in (("5", 0.4), ("20", 0.7))
    ]
    assert "a single seed: nothing is known about others" in answers(rows, a_recipe([5, 20]))[0].sentence
