"""Random selection: a seeded uniform draw over the distinct items of the index, for comparison."""

import numpy as np

from curate.selection.request import Assignment, Request
from curate.selection.shuffle import shuffle_keys


def uniform(request: Request) -> Assignment:
    """`sum(quotas)` distinct items, those whose id has the smallest keyed hash: the draw depends on the
    seed and on which items there are, not on their order. They are taken for no query and have neither
    rank nor similarity."""
    amount = int(request.quotas.sum())
    banned = _banned_keys(request)
    smallest = _Smallest(amount)
    start = 0
    for part in request.index.parts:
        fresh = shuffle_keys(request.index.item_ids(part.number), request.seed)
        passed = ~np.isin(fresh, banned)
        if request.blocked is not None:
            passed &= request.blocked[start : start + part.rows] == 0
        allowed = np.flatnonzero(passed)
        smallest.add(fresh[allowed], start + allowed)
        start += part.rows
    rows = smallest.rows()
    nothing = np.full(len(rows), -1, dtype=np.int64)
    return Assignment(
        rows, nothing, np.zeros(len(rows), dtype=np.int64), np.full(len(rows), np.nan, dtype=np.float32)
    )


def _banned_keys(request: Request) -> np.ndarray:
    """The keys of what may not be drawn, forgotten items among it: a banned item may stand in other rows too,
    under the same key."""
    keys = [shuffle_keys(request.index.forgotten.sorted_ids, request.seed)]
    banned = np.sort(request.banned)
    start = 0
    for part in request.index.parts:
        first, last = np.searchsorted(banned, [start, start + part.rows])
        if first < last:
            inside = banned[first:last] - start
            keys.append(shuffle_keys(request.index.item_ids(part.number)[inside], request.seed))
        start += part.rows
    return np.concatenate(keys)


class _Smallest:
    """The rows of the `amount` smallest distinct keys of all that are added, in ascending order of the rows
    that are added. They are sorted when as many have come together, not for every addition."""

    def __init__(self, amount: int) -> None:
        self.amount = amount
        self._kept = np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64)
        self._fresh: list[tuple[np.ndarray, np.ndarray]] = []
        self._waiting = 0

    def add(self, keys: np.ndarray, rows: np.ndarray) -> None:
        """Keys (n,) uint64 of rows (n,) int64, all beyond those before."""
        kept = self._kept[0]
        if len(kept) == self.amount:
            near = keys < kept[-1] if len(kept) else np.zeros(len(keys), dtype=bool)
            keys, rows = keys[near], rows[near]
        self._fresh.append((keys, rows))
        self._waiting += len(keys)
        if self._waiting >= self.amount:
            self._merge()

    def rows(self) -> np.ndarray:
        """Those of the smallest keys, in the order of the keys."""
        self._merge()
        return self._kept[1]

    def _merge(self) -> None:
        keys, rows = (np.concatenate(columns) for columns in zip(self._kept, *self._fresh, strict=True))
        self._kept = _smallest(keys, rows, self.amount)
        self._fresh, self._waiting = [], 0


def _smallest(keys: np.ndarray, rows: np.ndarray, amount: int) -> tuple[np.ndarray, np.ndarray]:
    """The `amount` smallest distinct keys and the first row of each: the same bytes have the same key."""
    order = np.lexsort((rows, keys))
    keys, rows = keys[order], rows[order]
    first = np.ones(len(keys), dtype=bool)
    first[1:] = keys[1:] != keys[:-1]
    return keys[first][:amount], rows[first][:amount]
