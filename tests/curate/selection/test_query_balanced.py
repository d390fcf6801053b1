import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from curate.selection.query_balanced import query_balanced
from curate.selection.request import Assignment, Request

Make = Callable[..., Any]


def _request(index: Any, vectors: np.ndarray, quotas: Any, **changes: Any) -> Request:
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    settings: dict[str, Any] = {
        "index": index,
        "vectors": vectors.astype(np.float32),
        "labels": (None,) * len(vectors),
        "quotas": np.asarray(quotas),
        "min_similarity": None,
        "topup": False,
        "seed": 0,
        "banned": np.empty(0, dtype=np.int64),
    }
    return Request(**settings | changes)


def _by_query(assignment: Assignment, count: int) -> list[list[int]]:
    return [assignment.rows[assignment.queries == query].tolist() for query in range(count)]


def _plainly(scores: np.ndarray, quotas: list[int]) -> list[list[int]]:
    """The definition, on whole rankings: in each round the free query and candidate that are most similar,
    of those that are each other's best, match first."""
    ranking = [sorted(range(scores.shape[1]), key=lambda i: (-row[i], i)) for row in scores]
    taken: set[int] = set()
    won: list[list[int]] = [[] for _ in quotas]
    while True:
        players = {q for q, goal in enumerate(quotas) if len(won[q]) < goal}
        if not players or len(taken) == scores.shape[1]:
            return won
        this_round: set[int] = set()
        while players:
            best = {q: next((i for i in ranking[q] if i not in taken | this_round), None) for q in players}
            bids = [(scores[q, i], -q, i) for q, i in best.items() if i is not None]
            if not bids:
                break
            _, minus_query, item = max(bids)
            won[-minus_query].append(item)
            this_round.add(item)
            players.discard(-minus_query)
        taken |= this_round


@pytest.mark.parametrize("seed", range(8))
def test_it_is_what_the_definition_says_however_deep_the_first_search(array_index: Make, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids = np.zeros((60, 16), dtype=np.uint8)
    ids[:, 0] = np.arange(60)
    index = array_index(rng.normal(size=(60, 3)), ids, cuts=(25,))
    vectors = rng.normal(size=(6, 3)) * 0.2 + [1, 0, 0]
    quotas = rng.integers(0, 13, 6).tolist()
    request = _request(index, vectors, quotas)
    scores = np.round(request.vectors @ index.stored.T, 5)
    assert _by_query(query_balanced(request), 6) == _plainly(scores, quotas)


def test_every_quota_fills_and_nothing_is_taken_twice(array_index: Make) -> None:
    rng = np.random.default_rng(1)
    index = array_index(rng.normal(size=(900, 16)), cuts=(300, 600))
    same = np.repeat(rng.normal(size=(3, 16)), 10, axis=0) + rng.normal(size=(30, 16)) * 1e-3
    assignment = query_balanced(_request(index, same, [25] * 30))
    assert np.bincount(assignment.queries).tolist() == [25] * 30
    assert len(np.unique(assignment.rows)) == 750
    assert (assignment.ranks >= 1).all()
    for query in range(30):
        ranks = assignment.ranks[assignment.queries == query]
        assert (np.diff(ranks) > 0).all()


def test_ranks_and_similarities_are_those_of_the_querys_own_ranking(array_index: Make) -> None:
    index = array_index(np.array([[1, 0], [0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]))
    assignment = query_balanced(_request(index, np.array([[1.0, 0.0], [1.0, 0.01]]), [2, 2]))
    columns = (assignment.queries, assignment.rows, assignment.ranks)
    found = list(zip(*(column.tolist() for column in columns), strict=True))
    assert found == [(0, 0, 1), (0, 3, 4), (1, 1, 2), (1, 2, 3)]
    expected = [index.stored[row] @ [1, 0] for row in (0, 3)]
    assert assignment.scores[:2] == pytest.approx(expected, abs=1e-5)


def test_a_contested_item_goes_to_the_more_similar_query_whatever_the_order(array_index: Make) -> None:
    index = array_index(np.array([[1, 0, 0], [0.5, 0.5, 0.7], [0, 0, -1]]))
    far, near = np.array([0.6, 0.8, 0.0]), np.array([0.99, 0.05, 0.0])
    for vectors, winner in ((np.stack([far, near]), 1), (np.stack([near, far]), 0)):
        assignment = query_balanced(_request(index, vectors, [1, 1]))
        assert _by_query(assignment, 2)[winner] == [0]


def test_banned_rows_are_passed_over_and_replaced(array_index: Make) -> None:
    rng = np.random.default_rng(2)
    index = array_index(rng.normal(size=(200, 8)))
    vectors = rng.normal(size=(5, 8))
    first = query_balanced(_request(index, vectors, [4] * 5))
    banned = first.rows[::2]
    again = query_balanced(_request(index, vectors, [4] * 5, banned=banned))
    assert len(again) == 20
    assert not set(again.rows.tolist()) & set(banned.tolist())


def test_a_small_pool_is_given_out_whole(array_index: Make) -> None:
    index = array_index(np.random.default_rng(3).normal(size=(7, 4)), cuts=(5,))
    assignment = query_balanced(_request(index, np.random.default_rng(4).normal(size=(3, 4)), [5, 5, 5]))
    assert sorted(assignment.rows.tolist()) == list(range(7))
    assert sorted(np.bincount(assignment.queries).tolist()) == [2, 2, 3]


def test_what_a_floor_leaves_open_is_topped_up_from_the_class_first(array_index: Make) -> None:
    around = np.array([[1, 0.01 * i, 0] for i in range(10)] + [[0, 0.01 * i, 1] for i in range(10)])
    index = array_index(around)
    vectors = np.array([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])
    labels = ("a", "a", "b")
    plain = _request(index, vectors, [3, 4, 3], labels=labels, min_similarity=0.9)
    assert np.bincount(query_balanced(plain).queries, minlength=3).tolist() == [3, 0, 3]
    topped = _request(index, vectors, [3, 4, 3], labels=labels, min_similarity=0.9, topup=True)
    assert np.bincount(query_balanced(topped).queries, minlength=3).tolist() == [7, 0, 3]
    across = _request(index, vectors, [8, 6, 3], labels=labels, min_similarity=0.9, topup=True)
    assert np.bincount(query_balanced(across).queries, minlength=3).tolist() == [10, 0, 7]


class _ConceptIndex:
    """A large index whose rankings cost nothing: what counts is the time of the assignment. The queries of a
    concept rank the same rows, each in its own order."""

    def __init__(self, rows: int, concepts: int) -> None:
        self.parts = [type("Part", (), {"number": 0, "rows": rows})()]
        self._concepts = concepts
        self._concept_rows = np.array_split(np.random.default_rng(0).permutation(rows), concepts)

    def search(self, queries: np.ndarray, k: int, engine: str = "exact") -> tuple[np.ndarray, np.ndarray]:
        positions = np.full((len(queries), k), -1, dtype=np.int64)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        for place, query in enumerate(queries[:, 0].astype(int)):
            own = self._concept_rows[query % self._concepts]
            ranking = np.random.default_rng(query).permutation(own)[:k]
            positions[place, : len(ranking)] = ranking
            scores[place, : len(ranking)] = np.linspace(1, 0.5, len(own))[: len(ranking)]
        return positions, scores


def test_twelve_hundred_queries_take_150_000_of_a_million_in_seconds() -> None:
    index = _ConceptIndex(1_000_000, concepts=60)
    vectors = np.zeros((1200, 2), dtype=np.float32)
    vectors[:, 0] = np.arange(1200)
    request = _request(index, np.ones((1200, 2)), [125] * 1200)
    request.vectors = vectors
    begin = time.process_time()  # other processes on the machine don't count
    assignment = query_balanced(request)
    seconds = time.process_time() - begin
    assert len(assignment) == 150_000
    assert len(np.unique(assignment.rows)) == 150_000
    assert seconds < 20, f"took {seconds:.1f} s"
