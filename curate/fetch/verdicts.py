"""What of the chosen images is kept, and why the rest is not.

Looked at in the order in which they were chosen: did bytes come, are they a query's, are they an image, the
one that the index knows, those of an earlier one. See `copies` for what is compared then.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curate.fetch.agreement import Threshold
from curate.fetch.checks import Check
from curate.fetch.reasons import CHANGED, DUPLICATE, NOT_AN_IMAGE
from curate.selection.removed import QUERY
from curate.selection.thresholds import stored_thresholds


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
    found = stored_thresholds(manifest)
    return None if found is None else Threshold(found.duplicate, "calibrated for the index's encoder")


def judge(
    checks: Mapping[int, Check], item_ids: Sequence[str], queries: Mapping[str, str], threshold: Threshold
) -> Verdicts:
    """Judge everything but copies of other images.

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
        return CHANGED, f"similarity {check.agreement:.4f} to its index row, below {threshold.value:.4f}"
    return None


def query_names(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Names of the queries by id, from the rows of queries.parquet."""
    return {row["query_id"]: row["name"] or row["query_id"] for row in rows if row["query_id"]}
