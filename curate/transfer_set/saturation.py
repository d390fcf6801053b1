"""Would more images help: how far above chance the queries were when they closed."""

from dataclasses import dataclass

import numpy as np

from curate.selection.selection import Selection

RELATED_DEVIATIONS, RELATED_LEAD = 3.0, 0.5
CHANCE_DEVIATIONS, CHANCE_LEAD = 2.0, 0.25


@dataclass(frozen=True)
class Saturation:
    """For the numbers `queries` (n,): the similarity of the best and the last image and the mean one of a
    random image with its standard deviation, `spread`; how many of these the last image lies above random;
    and which share of the best's lead over random it keeps. All (n,). `exhausted` queries found
    nothing more in the pool."""

    queries: np.ndarray
    best: np.ndarray
    last: np.ndarray
    random: np.ndarray
    spread: np.ndarray
    deviations: np.ndarray
    lead: np.ndarray
    exhausted: int

    @property
    def related(self) -> int:
        """For how many queries the next images would probably still be related."""
        return int(np.sum((self.deviations >= RELATED_DEVIATIONS) & (self.lead >= RELATED_LEAD)))

    def to_dict(self) -> dict[str, float | int]:
        """The numbers for the manifest, medians over queries."""
        values = {"best": self.best, "last": self.last, "random": self.random, "lead_left": self.lead}
        medians = {name: round(float(np.median(value)), 4) for name, value in values.items()}
        deviations = round(float(np.median(self.deviations)), 2)
        return {**medians, "deviations": deviations, "queries": len(self.queries), "related": self.related}

    def verdict(self) -> str:
        """One sentence."""
        last, random, deviations, lead = (
            float(np.median(values)) for values in (self.last, self.random, self.deviations, self.lead)
        )
        numbers = (
            f"the last image of the median query has similarity {last:.3f}, a random one {random:.3f} "
            f"({deviations:.1f} standard deviations lower); {lead:.0%} of the best image's lead is left"
        )
        if 2 * self.exhausted >= len(self.queries):
            return f"This pool has no more for {self.exhausted} queries; {numbers}."
        if 2 * self.related >= len(self.queries):
            return f"Probably: {numbers}."
        if deviations < CHANCE_DEVIATIONS or lead < CHANCE_LEAD:
            return f"Hardly, the queries ended near chance: {numbers}."
        return f"Perhaps for some queries: {numbers}."


def saturation_of(selection: Selection) -> Saturation | None:
    """Compare where each query closed with chance; None where chance was not measured or no query drew."""
    background = selection.background
    best: dict[int, float] = {}
    for pick in selection.picks:
        if pick.query is not None and pick.similarity is not None:
            best[pick.query] = max(best.get(pick.query, -1.0), pick.similarity)
    if background is None or not best or len(background.mean) != len(selection.quotas):
        return None
    queries = np.array(sorted(best), dtype=np.int64)
    most = np.array([best[int(query)] for query in queries])
    last = np.array([selection.closing[query] for query in queries], dtype=np.float64)
    random, spread = np.array(background.mean)[queries], np.array(background.spread)[queries]
    floored = set(selection.floored)
    exhausted = selection.missing and sum(
        filled < quota and number not in floored
        for number, (filled, quota) in enumerate(zip(selection.filled, selection.quotas, strict=True))
    )
    return Saturation(
        queries,
        most,
        last,
        random,
        spread,
        deviations=(last - random) / np.maximum(spread, 1e-3),
        lead=np.clip((last - random) / np.maximum(most - random, 1e-3), -1, 1),
        exhausted=exhausted,
    )
