"""Exact search: every row against every query, in blocks, so that memory does not grow with the index."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from curate.index.part import Part

BLOCK_ROWS = 65_536
_BLOCK_BYTES = 64 << 20
_SCORES_BYTES = 128 << 20
_LEAST_BLOCK = 1_024


@dataclass(frozen=True)
class Scan:
    """What is scanned: parts in order, and the row numbers (sorted, int64) that nothing may find."""

    parts: Sequence[Part]
    dimension: int
    hidden: np.ndarray

    def top(self, queries: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The `k` largest dot products of each query (q, d) with the rows, and the numbers of those rows.

        Returns values (q, k) in the precision of `queries` and row numbers (q, k) int64, in no order; where
        there are fewer than k rows, -inf and -1. Products are rounded as the precision rounds them: use
        float64 where values must not depend on which rows and queries were computed together.
        """
        values = torch.full((len(queries), k), -torch.inf, dtype=queries.dtype)
        rows = torch.full((len(queries), k), -1, dtype=torch.int64)
        for start, block in self.blocks(queries.dtype):
            chunk = max(1, _SCORES_BYTES // (len(block) * queries.element_size()))
            hidden = self._hidden_in(start, len(block))
            for first in range(0, len(queries), chunk):
                part = slice(first, first + chunk)
                scores = queries[part] @ block.T
                if len(hidden):
                    scores[:, hidden] = -torch.inf
                _merge(values[part], rows[part], scores, start)
        return values, rows

    def _hidden_in(self, start: int, length: int) -> torch.Tensor:
        low, high = np.searchsorted(self.hidden, [start, start + length])
        return torch.from_numpy(self.hidden[low:high] - start)

    def blocks(self, dtype: torch.dtype) -> Iterator[tuple[int, torch.Tensor]]:
        """(first row number, rows (n, d)) over all parts. The tensor is reused: it holds until the next
        one."""
        size = torch.empty((), dtype=dtype).element_size()
        capacity = max(_LEAST_BLOCK, min(BLOCK_ROWS, _BLOCK_BYTES // (size * self.dimension)))
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


def _merge(values: torch.Tensor, rows: torch.Tensor, scores: torch.Tensor, start: int) -> None:
    """Put what is best of `scores` (q, n), the rows from `start` on, into `values` and `rows` (q, k) in
    place."""
    k = values.shape[1]
    if k == 0:
        return
    best, where = torch.topk(scores, min(k, scores.shape[1]), dim=1, sorted=False)
    all_values = torch.cat([values, best], dim=1)
    all_rows = torch.cat([rows, where + start], dim=1)
    kept, places = torch.topk(all_values, k, dim=1, sorted=False)
    values.copy_(kept)
    rows.copy_(torch.gather(all_rows, 1, places))
    rows[values == -torch.inf] = -1
