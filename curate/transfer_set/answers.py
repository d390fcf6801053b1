"""What the sections of a transfer set's report are made from, and what they have in common."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curate.selection.guard import ExcludedSet
from curate.selection.queries import QuerySet
from curate.selection.removed import NEAR_DUPLICATE, QUERY, Removed
from curate.selection.selection import Selection
from curate.transfer_set.measures import Measures
from transferset.report import plot

if TYPE_CHECKING:
    from curate.index.index import Index

MOST_ROWS = 100
"""Of a table."""


@dataclass(frozen=True)
class Reported:
    """What the report tells; `outcome` and `guard` are the manifest's."""

    index: "Index"
    query_set: QuerySet
    selection: Selection
    excluded: ExcludedSet | None
    outcome: dict[str, Any]
    guard: dict[str, Any]
    measures: Measures

    @property
    def drawn(self) -> bool:
        """Whether the images were drawn at random, for no query."""
        return self.selection.picks[0].query is None

    @property
    def duplicates(self) -> list[Removed]:
        """What was left out because the set has it already."""
        return [one for one in self.selection.removed if one.why == NEAR_DUPLICATE]

    @property
    def leaks(self) -> list[Removed]:
        """What was kept out because it is a query or a copy of an excluded image, queries last."""
        found = [one for one in self.selection.removed if one.why != NEAR_DUPLICATE]
        return sorted(found, key=lambda one: (one.why == QUERY, one.why, one.position))


@dataclass(frozen=True)
class Answer:
    """A section: the question, a sentence that answers it, and what shows it (HTML)."""

    anchor: str
    question: str
    verdict: str
    body: str = ""


def show(drawings: dict[str, bytes], **described: str) -> str:
    """The plots of these names that there are, with their descriptions."""
    found = [
        plot(drawings[f"{name}.png"], words) for name, words in described.items() if f"{name}.png" in drawings
    ]
    return f'<div class="plots">{"".join(found)}</div>' if found else ""


def count(number: int, one: str, many: str) -> str:
    """A number with its noun."""
    return f"{number:,} {one if number == 1 else many}"
