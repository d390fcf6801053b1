"""One selection: which items are retrieved for which queries, what was kept out, what is missing."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from curate.index.numbering import Numbering
from curate.selection.background import Background
from curate.selection.candidates import SCORE_DECIMALS, WANTED_WITHIN, others_that_wanted
from curate.selection.filters import Filters, blocked_rows
from curate.selection.guard import LeakageGuard
from curate.selection.near_duplicates import NearDuplicates
from curate.selection.options import StrategyOptions, settings
from curate.selection.quotas import check_amount
from curate.selection.removed import REASONS, Removed
from curate.selection.request import Assignment, Request
from curate.selection.strategies import MEANT_FOR, STRATEGIES, StrategyName
from transferset.errors import DataError, UsageError

if TYPE_CHECKING:
    from curate.index.engine import AskedEngine
    from curate.index.index import Index

Shortfall = Literal["report", "topup", "fail"]


class NotRetrievable(DataError):
    """The index holds nothing, or not enough, for what was asked."""


@dataclass(frozen=True)
class SelectOptions:
    """How many images to select and how; checked when made (UsageError)."""

    total: int | None = None
    per_query: int | None = None
    strategy: StrategyName = "query-balanced"
    include_queries: bool = False
    min_similarity: float | None = None
    shortfall: Shortfall = "report"
    seed: int = 0
    engine: "AskedEngine" = "exact"
    filters: Filters = field(default_factory=Filters)
    tuning: StrategyOptions = field(default_factory=StrategyOptions)

    def __post_init__(self) -> None:
        check_amount(self.total, self.per_query)
        for name, value, allowed in (
            ("--strategy", self.strategy, tuple(STRATEGIES)),
            ("--shortfall", self.shortfall, get_args(Shortfall)),
            ("--engine", self.engine, ("auto", "exact", "faiss")),
        ):
            if value not in allowed:
                raise UsageError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        if self.min_similarity is not None and not -1 <= self.min_similarity <= 1:
            raise UsageError(f"--min-similarity is a cosine, from -1 to 1, got {self.min_similarity}")
        if self.min_similarity is not None and self.strategy == "random":
            raise UsageError(
                "--min-similarity has no meaning with --strategy random, which looks at no similarity"
            )
        if self.min_similarity is not None and self.tuning.class_blend:
            raise UsageError(
                "--min-similarity can't be combined with --class-blend, which doesn't order images by their "
                "similarity to the query"
            )
        if self.strategy == "text" and self.include_queries:
            raise UsageError("--include-queries has no meaning with --strategy text, whose queries are texts")
        for name, strategies in MEANT_FOR.items():
            if name in settings(self.tuning) and self.strategy not in strategies:
                raise UsageError(
                    f"--{name.replace('_', '-')} has no meaning with --strategy {self.strategy}",
                    hint=f"it is for {', '.join(strategies)}",
                )

    def describe(self) -> dict[str, Any]:
        """As JSON. Of filters and tuning only what is not the default, so that a transfer set of an older
        version stays the one that these options describe."""
        return {
            **asdict(self),
            "filters": settings(self.filters),
            "tuning": settings(self.tuning),
        }


@dataclass(frozen=True)
class Pick:
    """One retrieved item. `query` is the number of the query whose quota it fills, `rank` its place (from
    1) in that query's ranking of the index as far as filters leave it (by "text-image" and "cluster": of its
    class's candidates, of the item's cluster; with a class blend: by the blended query), `similarity` their
    true cosine; all None for a random draw.
    `also` are the other queries that had it among their first candidates, most similar first."""

    position: int
    query: int | None
    rank: int | None
    similarity: float | None
    also: tuple[int, ...] = ()


@dataclass(frozen=True)
class Selection:
    """Picks by query, then similarity; quotas; `floored` are the queries that a floor left open; `search`
    says which engine searched, why, and its recall on a sample of the queries if it is approximate;
    `background` how similar random images of the pool are to the queries, where that was measured;
    `filtered` is how many items the filters left out."""

    picks: tuple[Pick, ...]
    quotas: tuple[int, ...]
    removed: tuple[Removed, ...] = ()
    floored: tuple[int, ...] = ()
    search: dict[str, Any] | None = None
    background: Background | None = None
    filtered: int = 0

    @property
    def requested(self) -> int:
        """How many images were asked for."""
        return sum(self.quotas)

    @property
    def missing(self) -> int:
        """How many of them there are not: the shortfall."""
        return self.requested - len(self.picks)

    @cached_property
    def filled(self) -> tuple[int, ...]:
        """How many images each query got."""
        owners = [pick.query for pick in self.picks if pick.query is not None]
        return (
            tuple(np.bincount(owners, minlength=len(self.quotas)).tolist())
            if owners
            else (0,) * len(self.quotas)
        )

    @cached_property
    def closing(self) -> tuple[float | None, ...]:
        """The similarity at which each query closed, that of its least similar image; None if it got none."""
        worst: list[float | None] = [None] * len(self.quotas)
        for pick in self.picks:
            if pick.query is not None and pick.similarity is not None:
                known = worst[pick.query]
                worst[pick.query] = pick.similarity if known is None else min(known, pick.similarity)
        return tuple(worst)

    @property
    def closing_summary(self) -> tuple[float, float] | None:
        """Minimum and median of `closing` over the queries that got an image; None for a random draw."""
        known = [one for one in self.closing if one is not None]
        return (min(known), median(known)) if known else None

    def removed_counts(self) -> dict[str, int]:
        """How many items were kept out, by reason."""
        counts: dict[str, int] = dict.fromkeys(REASONS, 0)
        for one in self.removed:
            counts[one.why] += 1
        return counts


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
    removed = [Removed(position, "query", query) for query, position in _own(index, query_ids)]
    if guard is not None:
        known = {one.position for one in removed}
        exact = [(position, image) for position, image in guard.exact_copies() if position not in known]
        removed += [Removed(position, "exact bytes", image.name) for position, image in exact]
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
