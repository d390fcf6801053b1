"""What of the chosen images is kept, and why the rest is not.

Looked at in the order in which they were chosen: did bytes come, are they a query's, are they an image, the
one that the index knows, those of an earlier one; then the leakage guard compares what is left with the
excluded images, now that there are bytes to compare.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from curate.fetch.agreement import Threshold
from curate.fetch.checks import Check
from curate.fetch.chunks import Outcome
from curate.fetch.reasons import (
    CHANGED,
    DUPLICATE,
    EXCLUDED_BYTES,
    EXCLUDED_PIXELS,
    NOT_AN_IMAGE,
    QUERY,
)
from curate.selection.guard import ExcludedSet, LeakageGuard

if TYPE_CHECKING:
    from curate.index.index import Index
    from curate.index.part import ItemRow


@dataclass(frozen=True)
class Refused:
    """A chosen image that is not in the set: its place, a reason of `reasons`, and in words."""

    place: int
    reason: str
    detail: str


@dataclass
class Verdicts:
    """Places of the images that are kept, in order, and what was refused."""

    kept: list[int] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


def known_threshold(manifest: Mapping[str, Any], given: float | None) -> Threshold | None:
    """The threshold that is given, else the calibrated one of the index's manifest; None if there is
    neither."""
    if given is not None:
        return Threshold(given, "--min-agreement")
    thresholds = manifest.get("thresholds")
    found = thresholds.get("duplicate") if isinstance(thresholds, dict) else None
    if isinstance(found, int | float) and not isinstance(found, bool):
        return Threshold(float(found), "calibrated for the index's encoder")
    return None


def judge(
    checks: Mapping[int, Check], item_ids: Sequence[str], queries: Mapping[str, str], threshold: Threshold
) -> Verdicts:
    """Judge everything but leakage from the excluded images.

    Args:
        checks: of the images that came, by place.
        item_ids: the pool's ids of the chosen, by place.
        queries: names of the queries by the id of their bytes.
    """
    verdicts = Verdicts()
    first: dict[str, int] = {}
    for place in sorted(checks):
        check = checks[place]
        if check.item_id in queries:
            found: tuple[str, str] | None = (QUERY, f"the bytes of query {queries[check.item_id]}")
        else:
            found = _own_fault(check, threshold)
        if found is None and check.item_id in first:
            found = DUPLICATE, f"the bytes of {item_ids[first[check.item_id]]}"
        if found is None:
            first[check.item_id] = place
            verdicts.kept.append(place)
        else:
            verdicts.refused.append(Refused(place, *found))
    return verdicts


def _own_fault(check: Check, threshold: Threshold) -> tuple[str, str] | None:
    if check.problem is not None:
        return NOT_AN_IMAGE, check.problem
    if check.hash_holds is False:
        return CHANGED, f"its {check.recorded} is not the recorded one"
    if threshold.value is not None and check.agreement is not None and check.agreement < threshold.value:
        return CHANGED, f"similarity {check.agreement:.4f} to the index's row, below {threshold.value:.4f}"
    return None


class _Fetched:
    """The fetched images as the guard knows an index: at their positions in the index, with its rows, but
    with the ids, sizes and hashes of the bytes, which can be read."""

    has_bytes = True

    def __init__(self, index: "Index", images: Sequence[tuple["ItemRow", Check, Outcome]]) -> None:
        self._index = index
        self._items = {item.position: _with_bytes(item, check, outcome) for item, check, outcome in images}
        self._outcomes = {item.position: outcome for item, _, outcome in images}
        self._positions = {item.item_id: position for position, item in self._items.items()}

    def find(self, identity: bytes) -> int | None:
        return self._positions.get(identity)

    def items(self, positions: np.ndarray) -> list["ItemRow"]:
        return [self._items[position] for position in positions.tolist()]

    def item(self, position: int) -> "ItemRow":
        return self._items[position]

    def embeddings(self, part: int) -> np.ndarray:
        return self._index.embeddings(part)

    def read_bytes(self, item: "ItemRow") -> bytes:
        return self._outcomes[item.position].read()


def _with_bytes(item: "ItemRow", check: Check, outcome: Outcome) -> "ItemRow":
    return item._replace(
        item_id=outcome.item_id,
        size=outcome.size,
        format=check.format,
        width=check.width,
        height=check.height,
        phash=check.perceptual_hash,
    )


@dataclass(frozen=True)
class LeakCheck:
    """What fetched images are compared with; `short_side` is what they were decoded for."""

    index: "Index"
    excluded: ExcludedSet
    short_side: int
    max_pixels: int


def refuse_leaks(
    verdicts: Verdicts,
    checks: Mapping[int, Check],
    outcomes: Mapping[int, Outcome],
    items: Mapping[int, "ItemRow"],
    against: LeakCheck,
) -> Verdicts:
    """Refuse what the leakage guard finds among the images that `judge` kept: everything that it can do on
    bytes is done here."""
    places = {items[place].position: place for place in verdicts.kept}
    images = [(items[place], checks[place], outcomes[place]) for place in verdicts.kept]
    fetched = cast("Index", _Fetched(against.index, images))
    guard = LeakageGuard(against.excluded, fetched, against.short_side, against.max_pixels)
    leaks = {position: (EXCLUDED_BYTES, image.name) for position, image in guard.exact_copies()}
    left = np.array([position for position in places if position not in leaks], dtype=np.int64)
    leaks |= {position: (EXCLUDED_PIXELS, image.name) for position, image in guard.same_pixels(left)}
    refused = [Refused(places[position], why, f"of {name}") for position, (why, name) in leaks.items()]
    return Verdicts(
        [place for position, place in places.items() if position not in leaks],
        sorted([*verdicts.refused, *refused], key=lambda one: one.place),
    )


def query_names(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Names of the queries by id, from the rows of queries.parquet."""
    return {row["query_id"]: row["name"] or row["query_id"] for row in rows if row["query_id"]}
