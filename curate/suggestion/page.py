"""The page of suggestions: how much they cover, and the images, the most useful first."""

from typing import TYPE_CHECKING, Any

import numpy as np

from curate.selection.queries import QuerySet
from curate.suggestion.suggested import Suggested
from curate.transfer_set.pictures import Picture, Pictures
from curate.transfer_set.plots import covered
from transferset.report import class_name, page, plot, table, text

if TYPE_CHECKING:
    from curate.index.index import Index

MOST_ROWS = 100


def build_page(
    index: "Index", query_set: QuerySet, found: Suggested, outcome: dict[str, Any], guard: dict[str, Any]
) -> tuple[str, bytes]:
    """The page, in one file with all names escaped, and its plot (PNG)."""
    drawing = covered(np.array(found.curve), found.random)
    sections = [
        f'<p class="verdict">{text(_verdict(outcome))}</p>',
        f"<p>{text(_explained(outcome))}</p>",
        f"<p>{text('Leakage: ' + guard['statement'])}</p>",
        f'<div class="plots">{plot(drawing, "Mean coverage after each suggestion")}</div>',
        "<h2>The images</h2>",
        '<p class="quiet">The most useful first. Under each: the class of its nearest labelled image, their '
        "similarity, and how many candidates it represents. The class is a hint, not a label.</p>",
        _sheet(index, query_set, found),
        "<h2>By nearest class</h2>",
        _classes(outcome),
    ]
    return page("What to label next", "\n".join(sections)), drawing


def _verdict(outcome: dict[str, Any]) -> str:
    coverage = outcome["coverage"]
    return (
        f"If you label these {outcome['suggested']} images, coverage of the task's neighbourhood rises to "
        f"{coverage['with_suggestions']:.3f} from {coverage['queries']:.3f}; as many random ones from it "
        f"would give {coverage['with_random']:.3f}."
    )


def _explained(outcome: dict[str, Any]) -> str:
    told = (
        f"The neighbourhood: the {outcome['candidates']:,} images of the pool that the "
        f"{outcome['queries']:,} queries would retrieve. An image is covered by its similarity to the "
        "nearest other image that is labelled or suggested (the cosine after subtracting the pool's mean, 0 "
        "at least); each suggestion is the image that raises the mean of it most."
    )
    if outcome["missing"]:
        told += f" {outcome['missing']} of {outcome['requested']} are missing: the pool has no more."
    return told


def _sheet(index: "Index", query_set: QuerySet, found: Suggested) -> str:
    shown = []
    for place, one in enumerate(found.suggestions, start=1):
        label = query_set.queries[one.query].label
        name = "" if label is None else f"{text(label)}, "
        caption = f"<b>{place}</b> {name}{one.similarity:.3f}<br>for {one.stands_for}"
        shown.append(Picture(one.position, caption))
    return Pictures(index).row(shown)


def _classes(outcome: dict[str, Any]) -> str:
    counts = sorted(outcome["nearest_classes"], key=lambda one: -one["suggested"])
    rows = [[class_name(one["label"]), str(one["suggested"])] for one in counts[:MOST_ROWS]]
    told = f'<p class="quiet">{MOST_ROWS} of {len(counts)} classes.</p>' if len(counts) > MOST_ROWS else ""
    return told + table(["class", "suggestions nearest to it"], rows)
