"""How a selection went, in words."""

from curate.selection.guard import ExcludedSet
from curate.selection.queries import QuerySet
from curate.selection.selection import Selection
from curate.selection.thresholds import Calibration
from curate.transfer_set.manifest import describe_outcome, guard_statement
from transferset.console import say

_CLASSES_TOLD = 5


def tell_selection(
    selection: Selection,
    query_set: QuerySet,
    excluded: ExcludedSet | None,
    near: Calibration | None,
    has_bytes: bool,
) -> None:
    """How a selection went, on stderr."""
    if selection.filtered:
        say(f"filters left out {selection.filtered} images of the pool")
    say(f"selected {len(selection.picks)} of {selection.requested} images")
    closing = selection.closing_summary
    if closing is not None:
        say(f"queries closed at similarity {closing[0]:.3f} (least), {closing[1]:.3f} (median)")
    if has_bytes:
        removed = selection.removed_counts()
        say(
            f"kept out: {removed['query']} that are queries, {removed['exact bytes']} with the bytes of an "
            f"excluded image, {removed['same pixels']} with its pixels, {removed['near copy']} near copies, "
            f"{removed['near duplicate']} near-duplicates"
        )
    if selection.missing:
        why = f"; the similarity floor closed {len(selection.floored)} queries" if selection.floored else ""
        say(f"shortfall: {selection.missing} images are missing{why}{_short_classes(query_set, selection)}")
    warning = "WARNING: " if excluded is None else ""
    say(f"{warning}leakage: {guard_statement(excluded, near, has_bytes)}")


def _short_classes(query_set: QuerySet, selection: Selection) -> str:
    """Which classes lack most, where queries have classes."""
    outcome = describe_outcome(query_set, selection, 0)
    short = [one for one in outcome["classes"] if one["label"] is not None and one["missing"]]
    short.sort(key=lambda one: -one["missing"])
    told = ", ".join(f"{one['label']} {one['missing']}" for one in short[:_CLASSES_TOLD])
    more = f" and {len(short) - _CLASSES_TOLD} more classes" if len(short) > _CLASSES_TOLD else ""
    return f"; by class: {told}{more}" if short else ""
