"""Choosing items of an index for queries."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from curate.index.numbering import Numbering
from curate.selection.candidates import SCORE_DECIMALS, WANTED_WITHIN, others_that_wanted
from curate.selection.filters import Filters, blocked_rows
from curate.selection.guard import LeakageGuard
from curate.selection.near_duplicates import NearDuplicates
from curate.selection.removed import EXACT_BYTES, QUERY, Removed
from curate.selection.request import Assignment, Request
from curate.selection.select_options import SelectOptions
from curate.selection.selection import Pick, Selection
from curate.selection.strategies import STRATEGIES, StrategyName
from transferset.errors import DataError

if TYPE_CHECKING:
    from curate.index.index import Index


class NotRetrievable(DataError):
    """The index holds nothing, or not enough, for what was asked."""


def select(
    index: "Index",
    vectors: np.ndarray,
    query_ids: Sequence[str],
    labels: Sequence[str | None],
    quotas: Sequence[int],
    options: SelectOptions,
    guard: LeakageGuard | None = None,
    duplicates: NearDuplicates | None = None,
    texts: Mapping[str | None, np.ndarray] | None = None,
    *,
    without: Sequence[int] = (),
) -> Selection:
    """Choose items of the index for the queries, but none at the positions `without`.

    `vectors` (q, d) float32, or (q, v, d) for queries of several views, are their L2-normalised embeddings
    (ignored by "random"); `query_ids` are item ids in hex, and an item with such an id is never taken;
    `texts` are the unit vectors of the labels' names, which "text-image" needs. What `guard` and
    `duplicates` find is replaced by the next best, which is checked in turn, so that quotas still fill.
    DataError where nothing can be retrieved, or anything is missing under shortfall "fail".
    """
    numbering = Numbering(index.parts)
    removed = [Removed(position, QUERY, query) for query, position in _own(index, query_ids)]
    if guard is not None:
        known = {one.position for one in removed}
        exact = [(position, image) for position, image in guard.exact_copies() if position not in known]
        removed += [Removed(position, EXACT_BYTES, image.name) for position, image in exact]
    blocked, filtered = _blocked(index, options.filters)
    request = Request(
        index=index,
        vectors=vectors,
        labels=tuple(labels),
        quotas=np.asarray(quotas, dtype=np.int64),
        min_similarity=options.min_similarity,
        topup=options.shortfall == "topup",
        seed=options.seed,
        engine="faiss" if options.engine == "faiss" else "exact",
        banned=numbering.rows(np.array([*(one.position for one in removed), *without], dtype=np.int64)),
        blocked=blocked,
        texts=texts or {},
        options=options.tuning,
    )
    while True:
        assignment = STRATEGIES[options.strategy](request)
        positions = numbering.positions(assignment.rows)
        found = _unwanted(assignment, positions, guard, duplicates)
        if not found:
            break
        removed += found
        banned = numbering.rows(np.array([one.position for one in found], dtype=np.int64))
        request.banned = np.concatenate([request.banned, banned])
    selection = Selection(
        picks=_picks(request, assignment, positions, options.strategy),
        quotas=tuple(int(quota) for quota in quotas),
        removed=tuple(removed),
        floored=_floored(request, assignment),
        filtered=filtered,
    )
    _check(selection, options)
    return selection


def _unwanted(
    assignment: Assignment,
    positions: np.ndarray,
    guard: LeakageGuard | None,
    duplicates: NearDuplicates | None,
) -> list[Removed]:
    """Copies of excluded images among what was assigned and, of the rest, near-duplicates: the item with the
    better rank (then similarity, then smaller row) stays."""
    found = guard.copies(positions) if guard is not None else []
    if duplicates is not None:
        order = np.lexsort((assignment.rows, -np.nan_to_num(assignment.scores), assignment.ranks))
        leaks = np.array([one.position for one in found], dtype=np.int64)
        ordered = positions[order]
        found = found + duplicates.among(ordered[~np.isin(ordered, leaks)])
    return found


def _blocked(index: "Index", filters: Filters) -> tuple[np.ndarray | None, int]:
    """What the filters leave out, as one byte a row, and how many items it is."""
    if not filters.active:
        return None, 0
    blocked = blocked_rows(index, filters)
    filtered = int(np.count_nonzero(blocked)) - len(index.hidden)
    if blocked.all():
        raise NotRetrievable(
            f"the filters leave none of {filtered} images",
            hint="loosen them; where the pool's metadata has a name that a column of the index has too, "
            "extra.NAME is the pool's",
        )
    return blocked, filtered


def _own(index: "Index", query_ids: Sequence[str]) -> list[tuple[str, int]]:
    found = {query_id: index.find(bytes.fromhex(query_id)) for query_id in query_ids}
    return [(query_id, position) for query_id, position in found.items() if position is not None]


def _floored(request: Request, assignment: Assignment) -> tuple[int, ...]:
    if request.min_similarity is None:
        return ()
    filled = np.bincount(assignment.queries, minlength=len(request.quotas))
    return tuple(np.flatnonzero(request.lists.floored & (filled < request.quotas)).tolist())


def _picks(
    request: Request, assignment: Assignment, positions: np.ndarray, strategy: StrategyName
) -> tuple[Pick, ...]:
    if strategy == "random":
        return tuple(Pick(position, None, None, None) for position in positions.tolist())
    if request.options.class_blend:
        scores = request.similarities(assignment.rows, assignment.queries)
        order = np.lexsort((-scores, assignment.queries))
        columns = (assignment.rows, assignment.queries, assignment.ranks, scores)
        assignment = Assignment(*(column[order] for column in columns))
        positions = positions[order]
    others = others_that_wanted(
        request.lists, WANTED_WITHIN * request.quotas, assignment.rows, assignment.queries
    )
    picked = zip(
        positions.tolist(),
        assignment.queries.tolist(),
        assignment.ranks.tolist(),
        assignment.scores.astype(np.float64).round(SCORE_DECIMALS).tolist(),
        others,
        strict=True,
    )
    return tuple(Pick(*one) for one in picked)


def _check(selection: Selection, options: SelectOptions) -> None:
    if not selection.picks:
        floor = "" if options.min_similarity is None else f" at similarity {options.min_similarity} or more"
        raise NotRetrievable(
            f"nothing can be retrieved{floor}",
            hint="lower --min-similarity"
            if floor
            else "the index holds nothing but the queries and excluded images",
        )
    if options.shortfall == "fail" and selection.missing:
        raise NotRetrievable(
            f"{selection.missing} of {selection.requested} images are missing and --shortfall is fail",
            hint="ask for fewer, lower --min-similarity, or use --shortfall report",
        )
