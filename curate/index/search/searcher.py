"""From candidates to a ranking: true cosines from the stored rows, ordered by (score to 1e-5, item id)."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from curate.index.ids import ItemIds
from curate.index.numbering import Numbering
from curate.index.part import Part, rows_at
from curate.index.search.scan import Scan, row_lengths
from transferset.errors import NumericError
from transferset.parallel import ordered_map

SCORE_STEPS = 100_000
"""Scores are told apart to 1e-5."""
_ROUNDING = 0.5 / SCORE_STEPS
_FLOAT32_ERROR = 0.5 / SCORE_STEPS
_PAIRS = 1 << 23
_CHUNK = 128
"""Rows scored at a time: few, so that they stay in the cache."""
_PIECE = 8_192
"""Rows that a thread scores before the next thread's turn comes."""
_GATHER_COST = 128
"""Scoring one row that was looked up costs as much as scoring this many in a scan."""
_ABSENT = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Ranker:
    """Scores and orders candidates. `id_rank` (n,) is the place of each row's item id in ascending order."""

    parts: Sequence[Part]
    numbering: Numbering
    id_rank: np.ndarray

    def score(self, queries: torch.Tensor, rows: np.ndarray) -> np.ndarray:
        """Cosines in float64 of queries (q, d) float64, of length 1, and their candidates `rows` (q, m); -1
        gives -inf.

        In float64 a score depends, after rounding, on nothing but the query and the stored row.
        """
        flat = rows.reshape(-1)
        present = np.flatnonzero(flat >= 0)
        part, local = self.numbering.split(flat[present])
        order = np.lexsort((local, part))
        cuts = np.flatnonzero(np.diff(part[order], prepend=-1, append=-1)).tolist()
        pieces = [
            order[first : min(first + _PIECE, stop)]
            for start, stop in itertools.pairwise(cuts)
            for first in range(start, stop, _PIECE)
        ]

        def products(piece: np.ndarray) -> np.ndarray:
            stored = torch.from_numpy(self.parts[int(part[piece[0]])].mapped)
            return _cosines(stored, local[piece], queries, present[piece] // rows.shape[1])

        scores = np.full(len(flat), -np.inf)
        threads = min(torch.get_num_threads(), max(1, len(pieces)))
        window = 1 if threads == 1 else 2 * threads
        for piece, found in zip(pieces, ordered_map(products, pieces, threads, window), strict=True):
            scores[present[piece]] = found
        return scores.reshape(rows.shape)

    def rank(self, rows: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The best `k` of candidates (q, m), ordered: row numbers (q, k) int64 and scores in steps of 1e-5
        (q, k) int64; -1 and the smallest step where there are fewer."""
        steps = (
            np.rint(np.where(rows >= 0, scores, 0) * SCORE_STEPS)
            .astype(np.int64)
            .clip(-SCORE_STEPS, SCORE_STEPS)
        )
        keys = np.where(rows >= 0, (SCORE_STEPS - steps) << 32 | self.id_rank[rows], _ABSENT)
        if k < keys.shape[1]:
            keep = np.argpartition(keys, k - 1, axis=1)[:, :k] if k else np.empty((len(rows), 0), np.int64)
            rows, steps, keys = (np.take_along_axis(array, keep, 1) for array in (rows, steps, keys))
        order = np.argsort(keys, axis=1)
        return np.take_along_axis(rows, order, 1), np.take_along_axis(steps, order, 1)


def _cosines(stored: torch.Tensor, rows: np.ndarray, queries: torch.Tensor, owners: np.ndarray) -> np.ndarray:
    """Cosines (n,) float64 of the `stored` rows (n,) with the queries (n,) that they are candidates of."""
    which, asked = torch.from_numpy(rows), torch.from_numpy(owners)
    found = np.empty(len(rows))
    for start in range(0, len(rows), _CHUNK):
        some = slice(start, start + _CHUNK)
        vectors = stored.index_select(0, which[some]).double()
        products = np.einsum("nd,nd->n", vectors.numpy(), queries.index_select(0, asked[some]).numpy())
        found[some] = products / row_lengths(vectors).numpy()
    return found


@dataclass(frozen=True)
class Searcher:
    """Searches the rows that are not hidden; a hidden row is one whose item is forgotten, or stands at a
    smaller position too."""

    ranker: Ranker
    scan: Scan

    @property
    def available(self) -> int:
        return self.ranker.numbering.total - self.scan.hidden_count

    def without(self, blocked: np.ndarray) -> "Searcher":
        """The same searcher, which passes over the rows too that `blocked` (n,) uint8 marks with 1."""
        return Searcher(self.ranker, replace(self.scan, blocked=blocked))

    @cached_property
    def hidden_selector(self) -> Any:
        """What FAISS is to pass over; None if nothing is hidden."""
        if not self.scan.hidden_count:
            return None
        import faiss

        positions = self.ranker.numbering.positions(self.scan.hidden_rows)
        return faiss.IDSelectorNot(faiss.IDSelectorBatch(positions))

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """The stored rows (n, d) float16 by their numbers (n,)."""
        parts = {part.number: part for part in self.ranker.parts}
        positions = self.ranker.numbering.positions(rows)
        return rows_at(parts.__getitem__, positions, self.ranker.parts[0].dimension)

    def rows_of(self, positions: np.ndarray) -> np.ndarray:
        """Row numbers of positions; -1 stays."""
        return np.where(positions >= 0, self.ranker.numbering.rows(np.maximum(positions, 0)), -1)

    def exact(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Row numbers (q, k) and scores (q, k) float32 of the nearest items, by scanning everything."""
        wanted = min(k, self.available)
        fetch = min(self.available, wanted + 16 + wanted // 64)
        return self._grouped(queries, k, fetch, lambda asked: self._exact(asked, wanted, fetch))

    def of_candidates(
        self, queries: np.ndarray, k: int, fetch: int, candidates: Callable[[np.ndarray, int], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same among `candidates(queries, fetch)`: row numbers (q, fetch), none of them hidden, -1 for
        none."""

        def best(asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            rows = candidates(asked, fetch)
            scores = self.ranker.score(torch.from_numpy(asked).double(), rows)
            return self.ranker.rank(rows, scores, min(k, fetch))

        return self._grouped(queries, k, fetch, best)

    def _grouped(
        self,
        queries: np.ndarray,
        k: int,
        fetch: int,
        best: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    ) -> tuple[np.ndarray, np.ndarray]:
        if not np.isfinite(queries).all():
            raise NumericError(
                "a query's embedding holds NaN or infinity", hint="check the encoder and its precision"
            )
        found = np.full((len(queries), k), -1, np.int64)
        scores = np.zeros((len(queries), k), np.float32)
        group = max(1, _PAIRS // max(1, fetch))
        for start in range(0, len(queries), group):
            rows, steps = best(np.ascontiguousarray(queries[start : start + group], np.float32))
            found[start : start + group, : rows.shape[1]] = rows
            scores[start : start + group, : rows.shape[1]] = np.where(rows >= 0, steps / SCORE_STEPS, 0)
        return found, scores

    def _exact(self, queries: np.ndarray, k: int, fetch: int) -> tuple[np.ndarray, np.ndarray]:
        """Fetches some more than k and looks whether ties at the end could still hide a better one; if so,
        deeper."""
        rows = np.full((len(queries), k), -1, np.int64)
        steps = np.zeros((len(queries), k), np.int64)
        pending = np.arange(len(queries)) if k else np.arange(0)
        while len(pending):
            found, scores, lowest = self._fetch(queries[pending], fetch)
            rows[pending], steps[pending] = self.ranker.rank(found, scores, k)
            last = steps[pending, -1] / SCORE_STEPS
            sure = (lowest < last - _ROUNDING - _FLOAT32_ERROR) | (fetch >= self.available)
            pending = pending[~sure]
            fetch = min(self.available, 4 * fetch)
        return rows, steps

    def _fetch(self, queries: np.ndarray, fetch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Candidates, their scores, and the lowest score as scanned. A large share of the index is scanned in
        float64 at once; of a small one the float32 scan only chooses."""
        precise = torch.from_numpy(queries).double()
        scanned_precisely = fetch * _GATHER_COST > self.available
        values, numbers = self.scan.top(precise if scanned_precisely else precise.float(), fetch)
        rows = numbers.numpy()
        scores = values.numpy() if scanned_precisely else self.ranker.score(precise, rows)
        return rows, scores, values.min(dim=1).values.double().numpy()


def make_searcher(parts: Sequence[Part], dimension: int, ids: ItemIds, forgotten: np.ndarray) -> Searcher:
    """A searcher over all parts that passes over repeated items and the `forgotten` ids (n, 16) uint8."""
    numbering = Numbering(parts)
    by_id = numbering.rows(ids.positions)
    id_rank = np.empty(numbering.total, np.int64)
    id_rank[by_id] = np.arange(numbering.total)
    gone = [position for item_id in forgotten for position in ids.find(item_id.tobytes())]
    hidden = np.union1d(by_id[ids.repeated], numbering.rows(np.array(gone, np.int64)))
    return Searcher(Ranker(parts, numbering, id_rank), Scan(parts, dimension, hidden))
