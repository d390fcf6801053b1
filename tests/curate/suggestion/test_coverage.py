from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.suggestion.coverage import cover


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _around(axis: int, count: int, seed: int, dimension: int = 8, noise: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return _unit(np.eye(dimension)[axis] + noise * rng.normal(size=(count, dimension)))


def _none(dimension: int = 8) -> np.ndarray:
    return np.empty((0, dimension), dtype=np.float32)


def _coverage(candidates: np.ndarray, labelled: np.ndarray, chosen: list[int]) -> float:
    similarity = np.maximum(candidates @ candidates.T, 0)
    np.fill_diagonal(similarity, 0)
    near = [similarity[chosen], np.maximum(labelled @ candidates.T, 0), np.zeros((1, len(candidates)))]
    return float(np.concatenate(near).max(axis=0).mean())


def test_every_group_is_represented_before_any_is_twice() -> None:
    candidates = np.concatenate([_around(axis, 20 - 4 * axis, axis) for axis in range(4)])
    groups = np.repeat(np.arange(4), [20, 16, 12, 8])
    found = cover(candidates, _none(), 4)
    assert groups[found.chosen].tolist() == [0, 1, 2, 3], "the largest group first"
    assert found.stands_for.sum() == len(candidates)


def test_what_the_labelled_cover_is_not_suggested_again() -> None:
    candidates = np.concatenate([_around(0, 30, 0), _around(1, 6, 1)])
    found = cover(candidates, _around(0, 3, 2), 1)
    assert found.chosen[0] >= 30, "the small group, because the large one is labelled"


def test_an_odd_image_stands_for_nothing() -> None:
    candidates = np.concatenate([_around(0, 20, 0), _around(5, 1, 1), _around(6, 1, 2)])
    found = cover(candidates, _none(), 3)
    assert (found.chosen < 20).all()


def test_twins_are_not_suggested_together() -> None:
    group = _around(0, 12, 0, noise=0.4)
    candidates = np.concatenate([group, group[:1], group[:1], _around(1, 6, 3)])
    chosen = cover(candidates, _none(), 4).chosen.tolist()
    assert len({0, 12, 13} & set(chosen)) <= 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(0, 3))
def test_greedy_is_within_its_guarantee(seed: int, total: int, labelled: int) -> None:
    rng = np.random.default_rng(seed)
    candidates, known = (_unit(rng.normal(size=(count, 4))) for count in (total, labelled))
    count = min(3, total)
    found = cover(candidates, known, count, seed)
    before = _coverage(candidates, known, [])
    best = max(_coverage(candidates, known, list(some)) for some in combinations(range(total), count))
    assert found.curve[0] == pytest.approx(before, abs=1e-4)
    assert found.curve[-1] == pytest.approx(_coverage(candidates, known, found.chosen.tolist()), abs=1e-4)
    assert (
        found.curve[1] - before
        >= (1 - 1 / np.e) * (max(_coverage(candidates, known, [one]) for one in range(total)) - before) - 1e-4
    ), "the first choice is the best one"
    assert found.curve[-1] <= best + 1e-4
    assert len(set(found.chosen.tolist())) == count
    assert (found.gains >= -1e-9).all()


def test_it_beats_chance_and_depends_on_nothing_else() -> None:
    candidates = np.concatenate([_around(axis % 8, 3 + 5 * axis, axis, noise=0.3) for axis in range(8)])
    found, again = (cover(candidates, candidates[:2], 10, seed=4) for _ in range(2))
    assert found.curve[-1] > found.random > found.curve[0]
    assert found.chosen.tolist() == again.chosen.tolist() and found.random == again.random


def test_fewer_candidates_than_asked_for_are_all_chosen() -> None:
    found = cover(_around(0, 3, 0), _none(), 10)
    assert sorted(found.chosen.tolist()) == [0, 1, 2] and len(found.curve) == 4
