from collections.abc import Callable
from typing import Any

import numpy as np

from curate.selection.diverse import diverse, marginal_relevance
from curate.selection.options import StrategyOptions
from curate.selection.query_balanced import query_balanced
from curate.selection.request import Request

Make = Callable[..., Any]


def _request(index: Any, vectors: np.ndarray, quotas: list[int], diversity: float) -> Request:
    options = StrategyOptions(diversity=diversity)
    labels = (None,) * len(quotas)
    nothing = np.array([], dtype=int)
    return Request(index, vectors, labels, np.array(quotas), None, False, 0, nothing, options=options)


def test_the_second_is_unlike_the_first_though_less_like_the_query() -> None:
    angles = np.array([0.1, 0.12, 0.14, -0.3])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    relevance = vectors[:, 0]
    assert marginal_relevance(vectors, relevance, 0.0, 4).tolist() == [0, 1, 2, 3]
    assert marginal_relevance(vectors, relevance, 0.5, 2).tolist() == [0, 3, 1, 2]


def test_it_is_the_greedy_choice_of_carbonell_and_goldstein() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(40, 8))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    relevance = np.sort(rng.random(40))[::-1].astype(np.float32)
    chosen: list[int] = []
    for _ in range(12):

        def value(one: int) -> float:
            closest = max((float(vectors[one] @ vectors[other]) for other in chosen), default=0.0)
            return 0.6 * float(relevance[one]) - 0.4 * closest

        chosen.append(max((one for one in range(40) if one not in chosen), key=value))
    assert marginal_relevance(vectors, relevance, 0.4, 12)[:12].tolist() == chosen


def test_what_it_takes_is_more_spread_and_still_fills(array_index: Make) -> None:
    rng = np.random.default_rng(0)
    centres = np.repeat(rng.normal(size=(60, 12)), 8, axis=0)
    index = array_index(centres + 0.05 * rng.normal(size=(480, 12)))
    vectors = index.stored[[0, 100, 300]]
    plain = query_balanced(_request(index, vectors, [12, 12, 12], 0.3))
    spread = diverse(_request(index, vectors, [12, 12, 12], 0.3))
    assert np.bincount(spread.queries).tolist() == [12, 12, 12]

    def redundancy(rows: np.ndarray) -> float:
        likeness = index.stored[rows] @ index.stored[rows].T
        np.fill_diagonal(likeness, -1)
        return float(likeness.max(axis=1).mean())

    assert redundancy(spread.rows) < redundancy(plain.rows) - 0.02
    none = diverse(_request(index, vectors, [12, 12, 12], 0.0))
    assert none.rows.tolist() == plain.rows.tolist(), "without diversity it is query-balanced"
    assert (spread.scores == np.round((vectors[spread.queries] * index.stored[spread.rows]).sum(1), 5)).all()


def test_ranks_are_those_of_the_plain_ranking(array_index: Make) -> None:
    index = array_index(np.random.default_rng(1).normal(size=(100, 4)))
    vectors = index.stored[:2]
    chosen = diverse(_request(index, vectors, [5, 5], 0.7))
    scores = np.round(vectors @ index.stored.T, 5)
    for row, query, rank in zip(chosen.rows, chosen.queries, chosen.ranks, strict=True):
        assert rank == 1 + (scores[query] > scores[query, row]).sum()


def test_it_goes_on_by_similarity_where_all_that_was_ordered_is_banned(array_index: Make) -> None:
    index = array_index(np.random.default_rng(2).normal(size=(200, 4)))
    request = _request(index, index.stored[:1], [2], 0.5)
    nearest = np.argsort(-np.round(index.stored @ index.stored[0], 5), kind="stable")
    request.banned = nearest[:50]
    assert diverse(request).rows.tolist() == nearest[50:52].tolist()
