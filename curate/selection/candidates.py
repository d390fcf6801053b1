"""For each query the best items of the index, fetched deeper only where it turns out to be needed."""

from typing import TYPE_CHECKING

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


class CandidateLists:
    """Ranked candidates of every query: `rows[q]` (see `Numbering`) and `scores[q]`, best first, from rank 1.

    A list is `complete[q]` when nothing of the index follows it: the index is exhausted or the similarity
    floor is reached (`floored[q]`). `deepen` lengthens the others.
    """

    def __init__(
        self,
        index: "Index",
        vectors: np.ndarray,
        depth: int,
        min_similarity: float | None = None,
        engine: "Engine" = "exact",
    ) -> None:
        self.index = index
        self.engine = engine
        self.vectors = np.ascontiguousarray(vectors, dtype=np.float32)
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

    def deepen(self, queries: list[int]) -> None:
        """Fetch those of these queries' lists that are not complete to twice the depth of the deepest."""
        wanted = np.array([query for query in queries if not self.complete[query]], dtype=np.int64)
        if len(wanted):
            self._fetch(wanted, 2 * int(self._depth[wanted].max()))

    def _fetch(self, queries: np.ndarray, depth: int) -> None:
        depth = min(depth, max(1, self.numbering.total))
        block = max(1, _PAIRS_A_SEARCH // depth)
        for start in range(0, len(queries), block):
            chosen = queries[start : start + block]
            positions, scores = self.index.search(self.vectors[chosen], depth, self.engine)
            for query, found, cosines in zip(chosen.tolist(), positions, scores, strict=True):
                self._store(query, depth, found, cosines)

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
    lists: CandidateLists, depths: np.ndarray, rows: np.ndarray, owners: np.ndarray
) -> list[tuple[int, ...]]:
    """For each chosen row (n,) the queries besides its owner (n,) that had it among their first `depths[q]`
    candidates, by similarity, then query number."""
    queries = np.repeat(
        np.arange(len(lists)), [min(int(d), len(r)) for d, r in zip(depths, lists.rows, strict=True)]
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
