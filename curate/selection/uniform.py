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
    keys = np.empty(0, dtype=np.uint64)
    rows = np.empty(0, dtype=np.int64)
    start = 0
    for part in request.index.parts:
        fresh = shuffle_keys(request.index.item_ids(part.number), request.seed)
        passed = ~np.isin(fresh, banned)
        if request.blocked is not None:
            passed &= request.blocked[start : start + part.rows] == 0
        allowed = np.flatnonzero(passed)
        keys, rows = _smallest(
            np.concatenate([keys, fresh[allowed]]), np.concatenate([rows, start + allowed]), amount
        )
        start += part.rows
    nothing = np.full(len(rows), -1, dtype=np.int64)
    return Assignment(
        rows, nothing, np.zeros(len(rows), dtype=np.int64), np.full(len(rows), np.nan, dtype=np.float32)
    )


def _banned_keys(request: Request) -> np.ndarray:
    """The keys of what may not be drawn, forgotten items among it: a banned item may stand in other rows too,
    under the same key."""
    keys = [shuffle_keys(request.index.forgotten.sorted_ids, request.seed)]
    start = 0
    for part in request.index.parts:
        inside = request.banned[(request.banned >= start) & (request.banned < start + part.rows)] - start
        keys.append(shuffle_keys(request.index.item_ids(part.number)[inside], request.seed))
        start += part.rows
    return np.concatenate(keys)


def _smallest(keys: np.ndarray, rows: np.ndarray, amount: int) -> tuple[np.ndarray, np.ndarray]:
    """The `amount` smallest distinct keys and the first row of each: the same bytes have the same key."""
    order = np.lexsort((rows, keys))
    keys, rows = keys[order], rows[order]
    first = np.ones(len(keys), dtype=bool)
    first[1:] = keys[1:] != keys[:-1]
    return keys[first][:amount], rows[first][:amount]
