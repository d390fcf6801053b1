"""What every strategy promises, on pools, quotas and queries of all kinds."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.selection.options import StrategyOptions
from curate.selection.request import Assignment, Request
from curate.selection.strategies import STRATEGIES

Make = Callable[..., Any]

SHAPES = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10_000),
        "items": st.integers(1, 90),
        "repeats": st.integers(0, 10),
        "queries": st.integers(1, 7),
        "views": st.sampled_from([1, 3]),
        "classes": st.integers(1, 3),
        "most": st.integers(0, 12),
        "banned": st.floats(0, 0.95),
        "blocked": st.floats(0, 0.9),
        "topup": st.booleans(),
    }
)
QUIET = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NAMES = sorted(STRATEGIES)


def _request(make: Make, shape: dict[str, Any], options: StrategyOptions | None = None) -> Request:
    rng = np.random.default_rng(shape["seed"])
    vectors = rng.normal(size=(shape["items"], 5))
    ids = rng.integers(0, 256, (shape["items"], 16), dtype=np.uint8)
    again = rng.integers(0, shape["items"], shape["repeats"])
    index = make(np.concatenate([vectors, vectors[again]]), np.concatenate([ids, ids[again]]))
    labels = tuple(f"c{number % shape['classes']}" for number in range(shape["queries"]))
    quotas = rng.integers(0, shape["most"] + 1, shape["queries"])
    quotas[0] = max(1, quotas[0])
    total = len(index.ids)
    blocked = (rng.random(total) < shape["blocked"]).astype(np.uint8)
    blocked[index.hidden] = 1
    return Request(
        index,
        _unit(rng.normal(size=(shape["queries"], shape["views"], 5))),
        labels,
        quotas,
        None,
        shape["topup"],
        shape["seed"],
        np.flatnonzero(rng.random(total) < shape["banned"]),
        blocked=blocked if shape["blocked"] > 0.2 else None,
        texts={label: _unit(rng.normal(size=5)) for label in labels},
        options=options or StrategyOptions(),
    )


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def _available(request: Request) -> set[bytes]:
    """The ids of the items that may be taken."""
    taken = np.frombuffer(request.taken(), np.uint8).copy()
    taken[request.index.hidden] = 1
    gone = {bytes(request.index.ids[row]) for row in request.banned}
    return {bytes(request.index.ids[row]) for row in np.flatnonzero(taken == 0)} - gone


def _chosen(request: Request, assignment: Assignment) -> list[bytes]:
    return [bytes(request.index.ids[row]) for row in assignment.rows]


@pytest.mark.parametrize("name", NAMES)
@QUIET
@given(shape=SHAPES)
def test_no_item_twice_nothing_banned_and_quotas_full(array_index: Make, name: Any, shape: Any) -> None:
    request = _request(array_index, shape)
    # A banned item is banned wherever it stands: as `select` has it, which bans by id.
    request.banned = np.union1d(
        request.banned,
        np.flatnonzero(np.isin(_keys(request), list({_keys(request)[row] for row in request.banned}))),
    )
    available = _available(request)
    assignment = STRATEGIES[name](request)
    chosen = _chosen(request, assignment)
    assert len(chosen) == len(set(chosen))
    assert set(chosen) <= available
    filled = np.bincount(assignment.queries[assignment.queries >= 0], minlength=len(request.quotas))
    if name not in ("random", "best-match") and not request.topup:
        by_class = name in ("class-balanced", "text")
        for label in set(request.labels):
            own = np.array([one == label for one in request.labels])
            assert filled[own].sum() <= request.quotas[own].sum()
            assert by_class or (filled[own] <= request.quotas[own]).all()
    assert len(chosen) == min(request.quotas.sum(), len(available)), "where the pool has items, all are full"


def _keys(request: Request) -> np.ndarray:
    return np.array([bytes(one).hex() for one in request.index.ids])


@pytest.mark.parametrize("name", NAMES)
@QUIET
@given(shape=SHAPES)
def test_the_same_request_gives_the_same_answer(array_index: Make, name: Any, shape: Any) -> None:
    first, second = (STRATEGIES[name](_request(array_index, shape)) for _ in range(2))
    for column in ("rows", "queries", "ranks", "scores"):
        np.testing.assert_array_equal(getattr(first, column), getattr(second, column))


@pytest.mark.parametrize("name", ["query-balanced", "diverse", "cluster", "text-image", "best-match"])
@QUIET
@given(shape=SHAPES, order=st.randoms(use_true_random=False))
def test_the_order_of_queries_matters_for_ties_only(
    array_index: Make, name: Any, shape: Any, order: Any
) -> None:
    shape = {**shape, "topup": False}
    request, other = _request(array_index, shape), _request(array_index, shape)
    rows = np.arange(len(request.index.ids))
    scores = np.concatenate(
        [request.similarities(rows, np.full(len(rows), query)) for query in range(len(request.labels))]
    )
    if len(np.unique(scores)) < len(scores) and not shape["repeats"]:
        return  # similarities that are equal to 1e-5
    permutation = np.array(order.sample(range(len(request.labels)), len(request.labels)))
    other.vectors, other.quotas = request.vectors[permutation], request.quotas[permutation]
    other.labels = tuple(request.labels[one] for one in permutation)
    plain, moved = STRATEGIES[name](request), STRATEGIES[name](other)
    expected = set(zip(plain.rows.tolist(), plain.queries.tolist(), plain.ranks.tolist(), strict=True))
    owners = permutation[moved.queries].tolist()
    assert set(zip(moved.rows.tolist(), owners, moved.ranks.tolist(), strict=True)) == expected


@pytest.mark.parametrize("name", [name for name in NAMES if name != "random"])
@QUIET
@given(shape=SHAPES)
def test_scores_are_true_cosines(array_index: Make, name: Any, shape: Any) -> None:
    request = _request(array_index, shape)
    assignment = STRATEGIES[name](request)
    views, items = request.views[assignment.queries], request.index.stored[assignment.rows]
    cosines = np.einsum("nvd,nd->nv", views, items).max(axis=1)
    np.testing.assert_allclose(assignment.scores, cosines, atol=2e-5)
    assert (assignment.ranks >= 1).all()
    best_first = np.lexsort((-assignment.scores, assignment.queries))
    assert (assignment.scores[best_first] == assignment.scores).all(), "by query, then similarity"
