from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from curate.selection.removed import Removed
from curate.selection.select import select
from curate.selection.select_options import SelectOptions
from curate.selection.selection import Pick
from transferset.errors import DataError, UsageError

Make = Callable[..., Any]
UNKNOWN = ["ff" * 16, "fe" * 16]


class _PlantedGuard:
    """A guard that knows which positions leak; the real one is tested on images."""

    def __init__(self, exact: list[int], pixels: list[int]) -> None:
        self.exact, self.pixels = exact, pixels
        self._image = type("Image", (), {"name": "test/x.jpg"})()

    def exact_copies(self) -> list[tuple[int, Any]]:
        return [(position, self._image) for position in self.exact]

    def copies(self, positions: np.ndarray) -> list[Removed]:
        hits = [one for one in self.pixels if one in positions.tolist()]
        self.pixels = [one for one in self.pixels if one not in hits]
        return [Removed(position, "same pixels", self._image.name) for position in hits]


class _PlantedDuplicates:
    """Knows pairs of positions that are duplicates: the one taken later leaves."""

    def __init__(self, pairs: list[tuple[int, int]]) -> None:
        self.pairs = pairs
        self.orders: list[list[int]] = []

    def among(self, positions: np.ndarray) -> list[Removed]:
        order = positions.tolist()
        self.orders.append(order)
        both = [sorted(pair, key=order.index) for pair in self.pairs if set(pair) <= set(order)]
        return [Removed(later, "near duplicate", str(first), 0.9, 0.8) for first, later in both]


@pytest.fixture
def index(array_index: Make) -> Any:
    return array_index(np.array([[1, 0.05 * i] for i in range(20)]), cuts=(12,))


QUERIES = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)


def _select(
    index: Any, quotas: list[int], guard: Any = None, ids: list[str] = UNKNOWN, **options: Any
) -> Any:
    return select(index, QUERIES, ids, ["a", "b"], quotas, SelectOptions(total=9, **options), guard)


def test_picks_come_by_query_and_rank_with_the_others_that_wanted_them(index: Any) -> None:
    found = _select(index, [2, 1])
    assert [pick.query for pick in found.picks] == [0, 0, 1]
    assert found.picks[0] == Pick(int(index.positions[0]), 0, 1, 1.0)
    assert found.picks[2].position == index.positions[19]
    assert found.filled == (2, 1) and found.missing == 0
    assert found.closing == (found.picks[1].similarity, found.picks[2].similarity)
    wide = _select(index, [5, 5])
    assert all(pick.also == (1 - pick.query,) for pick in wide.picks)


@pytest.mark.parametrize("strategy", ["query-balanced", "best-match", "random"])
def test_what_may_not_be_taken_is_replaced_and_told(index: Any, strategy: Any) -> None:
    ids = [bytes(index.ids[0]).hex(), UNKNOWN[0]]
    positions = index.positions.tolist()
    guard = _PlantedGuard(
        exact=[positions[1], positions[19]], pixels=[positions[2], positions[18], positions[3]]
    )
    found = _select(index, [10, 5], guard, ids, strategy=strategy)
    taken = {pick.position for pick in found.picks}
    assert len(found.picks) == 14 if strategy == "random" else 15
    assert found.missing == 15 - len(found.picks)
    assert not taken & {positions[n] for n in (0, 1, 2, 3, 18, 19)}
    assert found.removed_counts() == {
        "query": 1, "exact bytes": 2, "same pixels": 3, "near copy": 0, "near duplicate": 0,
    }  # fmt: skip


@pytest.mark.parametrize("strategy", ["query-balanced", "best-match", "random"])
def test_a_duplicate_gives_way_and_the_quota_still_fills(index: Any, strategy: Any) -> None:
    positions = index.positions.tolist()
    duplicates = _PlantedDuplicates([(positions[0], positions[1]), (positions[1], positions[2])])
    options = SelectOptions(total=9, strategy=strategy)
    found = select(index, QUERIES, UNKNOWN, ["a", "b"], [9, 9], options, None, duplicates)  # type: ignore[arg-type]
    taken = {pick.position for pick in found.picks}
    assert found.missing == 0 and positions[1] not in taken
    assert found.removed_counts()["near duplicate"] >= 1


def test_a_random_draw_belongs_to_no_query(index: Any) -> None:
    found = _select(index, [3, 3], strategy="random")
    assert len(found.picks) == 6 and found.missing == 0
    assert {(pick.query, pick.rank, pick.similarity, pick.also) for pick in found.picks} == {
        (None, None, None, ())
    }
    assert found.closing_summary is None


def test_more_than_there_is_is_a_shortfall(index: Any) -> None:
    found = _select(index, [15, 15])
    assert (len(found.picks), found.missing, found.filled) == (20, 10, (10, 10))
    with pytest.raises(DataError, match="10 of 30"):
        _select(index, [15, 15], shortfall="fail")


def test_a_floor_leaves_quotas_open_and_says_whose(index: Any) -> None:
    found = _select(index, [4, 4], min_similarity=0.9)
    assert found.filled == (4, 0)
    assert found.floored == (1,)
    assert _select(index, [4, 4], min_similarity=0.9, shortfall="topup").filled == (8, 0)


def test_nothing_to_retrieve_is_an_error(index: Any) -> None:
    with pytest.raises(DataError, match="nothing can be retrieved at similarity 1"):
        select(index, QUERIES[1:], UNKNOWN[:1], ["b"], [3], SelectOptions(total=3, min_similarity=1.0))
    every = _PlantedGuard(exact=index.positions.tolist(), pixels=[])
    with pytest.raises(DataError, match="nothing can be retrieved"):
        _select(index, [1, 1], every)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"total": 1, "per_query": 1},
        {"total": 0},
        {"total": 1, "strategy": "best"},
        {"total": 1, "shortfall": "ignore"},
        {"total": 1, "min_similarity": 1.5},
        {"total": 1, "min_similarity": float("nan")},
        {"total": 1, "min_similarity": 0.2, "strategy": "random"},
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        SelectOptions(**options)
