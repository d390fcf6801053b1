"""What was selected: which items for which queries, what was kept out, what is missing."""

from dataclasses import dataclass
from functools import cached_property
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.selection.background import Background
from curate.selection.removed import REASONS, Removed

if TYPE_CHECKING:
    pass


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
