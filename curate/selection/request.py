"""What a strategy is asked for and what it answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from curate.index.numbering import Numbering
from curate.selection.candidates import OVERFETCH, CandidateLists, Candidates
from curate.selection.options import StrategyOptions
from transferset.grouping import groups_of
from transferset.vectors import unit

if TYPE_CHECKING:
    from curate.index.index import Engine, Index


@dataclass
class Request:
    """One selection to make: how many images for which queries, and what may not be taken.

    `vectors` (q, d) float32, or (q, v, d) for queries of several views, are L2-normalised; `quotas` (q,)
    int64; `labels` has q entries. Nothing may take the rows (see `Numbering`) that `blocked` (n,) uint8 marks
    with 1, which is what filters left out, nor those in `banned`, which grows when the leakage guard finds
    more. `texts` has a unit vector (d,) for each label, where the strategy needs it.
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
    blocked: np.ndarray | None = None
    texts: Mapping[str | None, np.ndarray] = field(default_factory=dict)
    options: StrategyOptions = field(default_factory=StrategyOptions)
    _lists: Candidates | None = field(default=None, repr=False)

    @cached_property
    def numbering(self) -> Numbering:
        """Row numbers of the index's positions."""
        return Numbering(self.index.parts)

    @cached_property
    def views(self) -> np.ndarray:
        """The queries' vectors (q, v, d); v is 1 without crops."""
        return self.vectors.reshape(len(self.vectors), -1, self.vectors.shape[-1])

    @cached_property
    def searched(self) -> np.ndarray:
        """The vectors (q, v, d) by which candidates are found and ordered: the queries', drawn towards the
        mean of their class by `class_blend`."""
        blend = self.options.class_blend
        if not blend:
            return self.views
        means = class_means(self.views[:, 0], self.labels)
        return unit((1 - blend) * self.views + blend * means[:, None, :])

    def similarities(self, rows: np.ndarray, queries: np.ndarray) -> np.ndarray:
        """True cosines (n,) float32 of rows (n,) and the queries (n,) themselves: the largest over views."""
        best = np.full(len(rows), -1, np.float32)
        for view in range(self.views.shape[1]):
            vectors = np.ascontiguousarray(self.views[:, view])
            for own in groups_of(queries):
                query = int(queries[own[0]])
                cosines = self.index.score(vectors[query : query + 1], rows[None, own])[0]
                best[own] = np.maximum(best[own], cosines)
        return best

    @property
    def lists(self) -> Candidates:
        """Every query's candidates; unless the strategy has made its own by `lists_of`, the nearest items."""
        return self.lists_of(nearest)

    def lists_of(self, make: "Callable[[Request], Candidates]") -> Candidates:
        """The candidates, made on first use and kept while `banned` grows."""
        if self._lists is None:
            self._lists = make(self)
        return self._lists

    def taken(self) -> bytearray:
        """One byte a row of the index, 1 where it is blocked or banned; strategies mark what they take."""
        taken = bytearray(self.numbering.total) if self.blocked is None else bytearray(self.blocked)
        if len(self.banned):
            np.frombuffer(taken, dtype=np.uint8)[self.banned] = 1
        return taken


def nearest(request: Request) -> CandidateLists:
    """The nearest items of every query, fetched deep enough for the largest quota."""
    depth = OVERFETCH * int(request.quotas.max())
    return CandidateLists(
        request.index, request.searched, depth, request.min_similarity, request.engine, request.blocked
    )


def class_means(vectors: np.ndarray, labels: tuple[str | None, ...]) -> np.ndarray:
    """For each vector (q, d) the mean (q, d) of its class's, at length 1."""
    names = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    owner = np.array([names[label] for label in labels])
    sums = np.zeros((len(names), vectors.shape[1]))
    np.add.at(sums, owner, vectors)
    return unit(sums)[owner]


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
