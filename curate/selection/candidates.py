"""For each query the best items of the index, fetched deeper only where it turns out to be needed."""

from typing import TYPE_CHECKING, Protocol

import numpy as np

from curate.index.numbering import Numbering

if TYPE_CHECKING:
    from curate.index.index import Engine, Index

OVERFETCH = 8
"""How many candidates are fetched at first for each image that a query may take: a deeper search costs
little more than a shallow one, a second search costs as much as the first."""
WANTED_WITHIN = 4
"""A query wanted what stands among its first candidates: so many for each image that it may take."""
SCORE_DECIMALS = 5
"""The index rounds similarities to this; equal ones rank by item id."""
_PAIRS_A_SEARCH = 1 << 25


class Candidates(Protocol):
    """What an assignment chooses from: for every query `rows[q]` (see `Numbering`) in the order in which it
    wants them, their similarities `scores[q]` and ranks `ranks[q]`.

    A list is `complete[q]` when nothing follows it: the index is exhausted or the similarity floor is reached
    (`floored[q]`). `deepen` lengthens the others; what stood in a list stays at its start, unless the class
    says otherwise.
    """

    rows: list[np.ndarray]
    scores: list[np.ndarray]
    complete: np.ndarray
    floored: np.ndarray

    @property
    def ranks(self) -> list[np.ndarray]: ...

    def deepen(self, queries: list[int]) -> None: ...


class CandidateLists:
    """The nearest items of every query, best first, from rank 1.

    `vectors` are (q, d) or, where a query is several vectors (crops), (q, v, d): an item's similarity is then
    the largest to any of them. The search passes over the rows that `blocked` marks.
    """

    def __init__(
        self,
        index: "Index",
        vectors: np.ndarray,
        depth: int,
        min_similarity: float | None = None,
        engine: "Engine" = "exact",
        blocked: np.ndarray | None = None,
    ) -> None:
        self.index = index
        self.engine = engine
        self.blocked = blocked
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float32).reshape(
            len(vectors), -1, vectors.shape[-1]
        )
        self.numbering = Numbering(index.parts)
        self.min_similarity = min_similarity
        count = len(self.vectors)
        self.rows: list[np.ndarray] = [np.empty(0, dtype=np.int64)] * count
        self.scores: list[np.ndarray] = [np.empty(0, dtype=np.float32)] * count
        self.complete = np.zeros(count, dtype=bool)
        self.floored = np.zeros(count, dtype=bool)
        self._depth = np.zeros(count, dtype=np.int64)
        self._fetch(np.arange(count), max(1, depth))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ranks(self) -> list[np.ndarray]:
        """1, 2, 3, …"""
        return [np.arange(1, len(rows) + 1) for rows in self.rows]

    def deepen(self, queries: list[int]) -> None:
        """Fetch those of these queries' lists that are not complete to twice the depth of the deepest."""
        wanted = np.array([query for query in queries if not self.complete[query]], dtype=np.int64)
        if len(wanted):
            self._fetch(wanted, 2 * int(self._depth[wanted].max()))

    def _fetch(self, queries: np.ndarray, depth: int) -> None:
        depth = min(depth, max(1, self.numbering.total))
        views = self.vectors.shape[1]
        passing = {} if self.blocked is None else {"blocked": self.blocked}
        block = max(1, _PAIRS_A_SEARCH // (depth * views))
        for start in range(0, len(queries), block):
            chosen = queries[start : start + block]
            flat = self.vectors[chosen].reshape(len(chosen) * views, -1)
            positions, scores = self.index.search(flat, depth, self.engine, **passing)
            grouped = (found.reshape(len(chosen), views * depth) for found in (positions, scores))
            for query, found, cosines in zip(chosen.tolist(), *grouped, strict=True):
                if views > 1:
                    found, cosines = self._largest(found, cosines, depth)
                self._store(query, depth, found, cosines)

    def _largest(
        self, positions: np.ndarray, scores: np.ndarray, depth: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The `depth` best of the views' results, each item once with its largest cosine. Nothing is missed:
        an item that is among the best by its largest cosine is among the best of the view that has it."""
        known = positions >= 0
        positions, scores = positions[known], scores[known]
        ids = self.index.id_rank[self.numbering.rows(positions)]
        order = np.lexsort((ids, -scores))
        _, first = np.unique(ids[order], return_index=True)
        kept = order[np.sort(first)][:depth]
        return positions[kept], scores[kept]

    def _store(self, query: int, depth: int, positions: np.ndarray, scores: np.ndarray) -> None:
        known = int(np.count_nonzero(positions >= 0))
        kept = known
        if self.min_similarity is not None:
            kept = int(np.count_nonzero(scores[:known] >= self.min_similarity))
            self.floored[query] = kept < known
        self.rows[query] = self.numbering.rows(positions[:kept])
        self.scores[query] = scores[:kept]
        self._depth[query] = depth
        exhausted = known < depth or depth >= self.numbering.total
        self.complete[query] = bool(self.floored[query]) or exhausted


def others_that_wanted(
    lists: Candidates, depths: np.ndarray, rows: np.ndarray, owners: np.ndarray
) -> list[tuple[int, ...]]:
    """For each chosen row (n,) the queries besides its owner (n,) that had it among their first `depths[q]`
    candidates, by similarity, then query number."""
    queries = np.repeat(
        np.arange(len(lists.rows)), [min(int(d), len(r)) for d, r in zip(depths, lists.rows, strict=True)]
    )
    found = _heads(lists.rows, depths, np.int64)
    scores = _heads(lists.scores, depths, np.float32)
    order = np.argsort(rows)
    place = np.searchsorted(rows[order], found)
    place[place == len(rows)] = 0
    hit = rows[order][place] == found if len(rows) else np.zeros(len(found), dtype=bool)
    pick, queries, scores = order[place[hit]], queries[hit], scores[hit]
    other = owners[pick] != queries
    pick, queries, scores = pick[other], queries[other], scores[other]
    ranked = np.lexsort((queries, -scores, pick))
    counts = np.bincount(pick, minlength=len(rows))
    pieces = np.split(queries[ranked], np.cumsum(counts)[:-1]) if len(rows) else []
    return [tuple(piece.tolist()) for piece in pieces]


def _heads(lists: list[np.ndarray], depths: np.ndarray, kind: type) -> np.ndarray:
    heads = [one[: int(depth)] for one, depth in zip(lists, depths, strict=True)]
    return np.concatenate(heads).astype(kind, copy=False) if heads else np.empty(0, dtype=kind)
