from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from curate.selection.best_match import best_match
from curate.selection.request import Request

Make = Callable[..., Any]


@pytest.mark.parametrize("seed", range(5))
def test_it_takes_the_items_with_the_greatest_similarity_to_any_query(array_index: Make, seed: int) -> None:
    rng = np.random.default_rng(seed)
    index = array_index(rng.normal(size=(400, 6)), cuts=(150,))
    vectors = rng.normal(size=(9, 6)) * np.linspace(0.1, 2, 9)[:, None] + [2, 0, 0, 0, 0, 0]
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    banned = np.array([3, 77])
    quotas = np.array([7] * 9)
    chosen = best_match(Request(index, vectors, (None,) * 9, quotas, None, False, 0, banned))
    scores = np.round(vectors @ index.stored.T, 5)
    greatest = scores.max(axis=0)
    greatest[banned] = -2
    assert len(chosen) == 63
    assert np.sort(chosen.scores)[0] == pytest.approx(np.sort(greatest)[-63], abs=1e-5)
    assert set(chosen.rows.tolist()) == set(np.argsort(-greatest)[:63].tolist())
    assert (scores[chosen.queries, chosen.rows] == greatest[chosen.rows]).all()
    for query, row, rank in zip(chosen.queries, chosen.rows, chosen.ranks, strict=True):
        assert rank == 1 + (scores[query] > scores[query, row]).sum()


def test_an_easy_query_may_take_everything(array_index: Make) -> None:
    index = array_index(np.array([[1, 0.01 * i] for i in range(50)] + [[-1, 3.0]] * 1))
    vectors = np.array([[1.0, 0.0], [0.0, -1.0]], dtype=np.float32)
    chosen = best_match(
        Request(index, vectors, (None, None), np.array([5, 5]), None, False, 0, np.array([], dtype=int))
    )
    assert chosen.queries.tolist() == [0] * 10


def test_a_floor_and_a_small_pool_end_it(array_index: Make) -> None:
    index = array_index(np.array([[1.0, 0.0], [0.0, 1.0]]))
    vectors = np.array([[1.0, 0.0]], dtype=np.float32)
    nothing = np.array([], dtype=int)
    assert len(best_match(Request(index, vectors, (None,), np.array([9]), None, False, 0, nothing))) == 2
    assert len(best_match(Request(index, vectors, (None,), np.array([9]), 0.5, False, 0, nothing))) == 1
