"""What was kept out, beside what it is a copy of."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from curate.selection.guard import ExcludedSet
from curate.selection.queries import QuerySet
from curate.selection.removed import EXACT_BYTES, NEAR_COPY, NEAR_DUPLICATE, QUERY, SAME_PIXELS, Removed
from curate.transfer_set.pictures import Picture, Pictures
from transferset.report import text

if TYPE_CHECKING:
    from curate.index.index import Index

MOST_REMOVED = 40
"""Of each reason."""
_REASONS = {
    EXACT_BYTES: "The bytes of an excluded image",
    SAME_PIXELS: "The pixels of an excluded image",
    NEAR_COPY: "A near copy of an excluded image",
    NEAR_DUPLICATE: "A near-duplicate of a selected image",
    QUERY: "Is a query",
}


def removed_pictures(
    index: "Index",
    query_set: QuerySet,
    excluded: ExcludedSet | None,
    removed: Sequence[Removed],
    pictures: Pictures,
) -> str:
    """A section a reason, in the order in which reasons first occur in `removed`, each with its first pairs
    of images."""
    images = {} if excluded is None else {image.name: image.path for image in excluded.images}
    queries = {query.query_id: query for query in query_set.queries}

    def match(one: Removed) -> Picture:
        if one.match in images:
            return Picture(images[one.match], text(one.match))
        if one.match in queries:
            return Picture(queries[one.match], text(queries[one.match].name))
        taken = index.item(bytes.fromhex(one.match))
        return Picture(taken.position, f"taken: {text(taken.key)}")

    sections = []
    for why in dict.fromkeys(one.why for one in removed):
        some = sorted((one for one in removed if one.why == why), key=lambda one: -(one.agreement or 0))
        told = f" ({MOST_REMOVED} shown)" if len(some) > MOST_REMOVED else ""
        sections.append(f"<h3>{text(_REASONS.get(why, why))}: {len(some):,}{told}</h3>")
        for one in some[:MOST_REMOVED]:
            pool = Picture(one.position, f"pool: {text(index.item(one.position).key)}{_scores(one)}")
            sections.append(pictures.row([pool, match(one)]))
    return "\n".join(sections)


def _scores(one: Removed) -> str:
    if one.similarity is None:
        return ""
    pixels = "pixels not read" if one.agreement is None else f"pixels agree by {one.agreement:.2f}"
    return f"<br>similarity {one.similarity:.2f}, {pixels}"
