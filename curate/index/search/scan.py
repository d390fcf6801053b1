"""Exact search: every row against every query, in blocks, so that memory does not grow with the index."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from curate.index.part import Part

BLOCK_ROWS = 65_536
_BLOCK_BYTES = 64 << 20
_SCORES_BYTES = 128 << 20
_LEAST_BLOCK = 1_024
_COLUMNS = 32
"""Scores that are looked at by their maximum first; blocks are multiples of it."""


@dataclass(frozen=True)
class Scan:
    """What is scanned: parts in order, and what nothing may find: `hidden`, row numbers (sorted, int64), and
    the rows that `blocked` (n,) uint8, if there is one, marks with 1."""

    parts: Sequence[Part]
    dimension: int
    hidden: np.ndarray
    blocked: np.ndarray | None = None
    _lengths: dict[tuple[int, torch.dtype], torch.Tensor] = field(default_factory=dict, repr=False)

    def top(self, queries: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The `k` largest cosines of each query (q, d), which has length 1, to the rows, and whose they are.

        Returns values (q, k) in the precision of `queries` and row numbers (q, k) int64, in no order; where
        there are fewer than k rows, -inf and -1. Cosines are rounded as the precision rounds them: use
        float64 where values must not depend on which rows and queries were computed together.
        """
        values = torch.full((len(queries), k), -torch.inf, dtype=queries.dtype)
        rows = torch.full((len(queries), k), -1, dtype=torch.int64)
        for start, block in self.blocks(queries.dtype):
            chunk = max(1, _SCORES_BYTES // (len(block) * queries.element_size()))
            hidden = self._hidden_in(start, len(block))
            lengths = self._lengths_of(start, block)
            for first in range(0, len(queries), chunk):
                part = slice(first, first + chunk)
                scores = (queries[part] @ block.T).div_(lengths)
                if len(hidden):
                    scores[:, hidden] = -torch.inf
                _merge(values[part], rows[part], scores, start)
        return values, rows

    def _hidden_in(self, start: int, length: int) -> torch.Tensor:
        low, high = np.searchsorted(self.hidden, [start, start + length])
        hidden = self.hidden[low:high] - start
        if self.blocked is not None:
            hidden = np.union1d(hidden, np.flatnonzero(self.blocked[start : start + length]))
        return torch.from_numpy(hidden)

    @cached_property
    def hidden_rows(self) -> np.ndarray:
        """Row numbers (sorted, int64) of all that nothing may find."""
        return self.hidden if self.blocked is None else np.union1d(self.hidden, np.flatnonzero(self.blocked))

    @cached_property
    def hidden_count(self) -> int:
        """How many rows nothing may find."""
        if self.blocked is None:
            return len(self.hidden)
        return int(np.count_nonzero(self.blocked) + np.count_nonzero(self.blocked[self.hidden] == 0))

    def _lengths_of(self, start: int, block: torch.Tensor) -> torch.Tensor:
        """The lengths of a block's rows; they are kept, because to compute them again would cost a single
        query a quarter more."""
        key = (start, block.dtype)
        if key not in self._lengths:
            self._lengths[key] = row_lengths(block)
        return self._lengths[key]

    def blocks(self, dtype: torch.dtype) -> Iterator[tuple[int, torch.Tensor]]:
        """(first row number, rows (n, d)) over all parts. The tensor is reused: it holds until the next
        one."""
        size = torch.empty((), dtype=dtype).element_size()
        capacity = max(
            _LEAST_BLOCK, min(BLOCK_ROWS, _BLOCK_BYTES // (size * self.dimension) // _COLUMNS * _COLUMNS)
        )
        capacity = min(capacity, sum(part.rows for part in self.parts))
        block = torch.empty((capacity, self.dimension), dtype=dtype)
        start = filled = 0
        for part in self.parts:
            done = 0
            while done < part.rows:
                count = min(part.rows - done, capacity - filled)
                block[filled : filled + count].copy_(torch.from_numpy(part.mapped[done : done + count]))
                filled += count
                done += count
                if filled == capacity:
                    yield start, block
                    start, filled = start + filled, 0
        if filled:
            yield start, block[:filled]


def row_lengths(rows: torch.Tensor) -> torch.Tensor:
    """The lengths (n,) of stored rows (n, d): 1 to about 1e-4 after their rounding to float16. A row of zeros
    counts as 1 long, so that its cosines are 0."""
    lengths = torch.linalg.vector_norm(rows, dim=1)
    return torch.where(lengths > 0, lengths, 1)


def _merge(values: torch.Tensor, rows: torch.Tensor, scores: torch.Tensor, start: int) -> None:
    """Put what is best of `scores` (q, n), the rows from `start` on, into `values` and `rows` (q, k) in
    place."""
    k = values.shape[1]
    if k == 0:
        return
    found = _better(scores, values.amin(dim=1))
    if found is None:
        best, where = torch.topk(scores, min(k, scores.shape[1]), dim=1, sorted=False)
    else:
        best, where = found
    all_values = torch.cat([values, best], dim=1)
    all_rows = torch.cat([rows, where + start], dim=1)
    kept, places = torch.topk(all_values, k, dim=1, sorted=False)
    values.copy_(kept)
    rows.copy_(torch.gather(all_rows, 1, places))
    rows[values == -torch.inf] = -1


def _better(scores: torch.Tensor, least: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """All of `scores` (q, n) that are more than the `least` (q,) of their row, and their columns: (q, m),
    with -inf where a row has fewer than m. None where they are so many that they had better be sorted.

    Looks at the maximum of every few columns first: after the first blocks hardly any has anything to offer.
    """
    if scores.shape[1] % _COLUMNS or not len(scores):
        return None
    groups = scores.unflatten(1, (-1, _COLUMNS))
    row, group = (groups.amax(dim=2) > least[:, None]).nonzero(as_tuple=True)
    if len(row) * _COLUMNS > 0.9 * scores.numel():
        return None
    near = groups[row, group]
    hit, lane = (near > least[row, None]).nonzero(as_tuple=True)
    row, column = row[hit], group[hit] * _COLUMNS + lane
    counts = torch.bincount(row, minlength=len(scores))
    place = torch.arange(len(row)) - (torch.cumsum(counts, 0) - counts)[row]
    most = int(counts.max()) if len(row) else 0
    best = torch.full((len(scores), most), -torch.inf, dtype=scores.dtype)
    where = torch.zeros((len(scores), most), dtype=torch.int64)
    best[row, place] = near[hit, lane]
    where[row, place] = column
    return best, where
