"""What a strategy is asked for and what it answers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from curate.index.numbering import Numbering
from curate.selection.candidates import OVERFETCH, CandidateLists

if TYPE_CHECKING:
    from curate.index.index import Engine, Index


@dataclass
class Request:
    """One selection to make: how many images for which queries, and what may not be taken.

    `vectors` (q, d) float32 are L2-normalised; `quotas` (q,) int64; `labels` has q entries. `banned` holds
    the row numbers (see `Numbering`) that nothing may take; it grows when the leakage guard finds more.
    """

    index: "Index"
    vectors: np.ndarray
    labels: tuple[str | None, ...]
    quotas: np.ndarray
    min_similarity: float | None
    topup: bool
    seed: int
    banned: np.ndarray
    engine: "Engine" = "exact"

    @cached_property
    def numbering(self) -> Numbering:
        """Row numbers of the index's positions."""
        return Numbering(self.index.parts)

    @cached_property
    def lists(self) -> CandidateLists:
        """Every query's candidates, searched on first use and kept while `banned` grows."""
        depth = OVERFETCH * int(self.quotas.max())
        return CandidateLists(self.index, self.vectors, depth, self.min_similarity, self.engine)

    def taken(self) -> bytearray:
        """One byte a row of the index, 1 where it is banned; strategies mark what they take."""
        taken = bytearray(self.numbering.total)
        if len(self.banned):
            np.frombuffer(taken, dtype=np.uint8)[self.banned] = 1
        return taken


@dataclass(frozen=True)
class Assignment:
    """Chosen rows (n,) int64 with the query (n,) that each is taken for (-1: none), its rank (n,) in that
    query's ranking of the index (from 1; 0: none) and its similarity (n,) float32 (NaN: none)."""

    rows: np.ndarray
    queries: np.ndarray
    ranks: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


Strategy = Callable[[Request], Assignment]
