from collections.abc import Callable
from typing import Any

import numpy as np

from curate.selection.candidates import CandidateLists, others_that_wanted

Make = Callable[..., Any]


def test_deeper_lists_go_on_where_they_ended(array_index: Make) -> None:
    rng = np.random.default_rng(0)
    index = array_index(rng.normal(size=(300, 8)), cuts=(100,))
    lists = CandidateLists(index, index.stored[:4] + 0.1, depth=10)
    before = [rows.copy() for rows in lists.rows]
    lists.deepen([1, 3])
    assert [len(rows) for rows in lists.rows] == [10, 20, 10, 20]
    assert all((rows[:10] == old).all() for rows, old in zip(lists.rows, before, strict=True))
    assert index.searches == [4, 2]
    for _ in range(6):
        lists.deepen([1])
    assert lists.complete.tolist() == [False, True, False, False]
    assert len(lists.rows[1]) == 300


def test_a_floor_ends_a_list(array_index: Make) -> None:
    index = array_index(np.array([[1, 0], [0.9, 0.1], [0, 1], [-1, 0]]))
    lists = CandidateLists(index, np.array([[1.0, 0.0]]), depth=2, min_similarity=0.5)
    assert not lists.complete[0]
    lists.deepen([0])
    assert lists.complete[0] and lists.floored[0]
    assert lists.rows[0].tolist() == [0, 1]
    lists.deepen([0])
    assert index.searches == [1, 1]


def test_others_come_by_similarity_within_their_first_candidates(array_index: Make) -> None:
    index = array_index(np.array([[1, 0], [0.8, 0.6], [0, 1]]))
    queries = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    lists = CandidateLists(index, queries, depth=3)
    rows, owners = np.array([1, 0]), np.array([0, 0])
    assert others_that_wanted(lists, np.array([3, 3, 3]), rows, owners) == [(1, 2), (1, 2)]
    assert others_that_wanted(lists, np.array([3, 1, 2]), rows, owners) == [(1, 2), ()]
    assert (
        others_that_wanted(lists, np.array([3, 3, 3]), np.array([], dtype=int), np.array([], dtype=int)) == []
    )
