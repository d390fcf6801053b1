"""Positions (part << 32 | row) as consecutive numbers 0 … n-1 and back."""

from collections.abc import Sequence

import numpy as np

from curate.index.layout import PART_BITS, ROW_MASK
from curate.index.part import Part


class Numbering:
    """Parts in ascending order of their numbers, so that the order of rows is the order of positions."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.numbers = np.array([part.number for part in parts], np.int64)
        ends = np.cumsum([part.rows for part in parts], dtype=np.int64)
        self.starts = np.concatenate([np.zeros(1, np.int64), ends])[: len(parts)]
        self.total = int(ends[-1]) if len(parts) else 0

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """Numbers of positions, int64."""
        part = np.searchsorted(self.numbers, positions >> PART_BITS)
        return self.starts[part] + (positions & ROW_MASK)

    def split(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Place in the list of parts and row in the part, of numbers."""
        part = np.searchsorted(self.starts, rows, side="right") - 1
        return part, rows - self.starts[part]

    def positions(self, rows: np.ndarray) -> np.ndarray:
        """Positions of numbers, int64."""
        part, row = self.split(rows)
        return self.numbers[part] << PART_BITS | row
