"""Findings as pictures: one page that shows both images of every pair."""

from collections.abc import Sequence
from pathlib import Path

from distill.splits.overlap import BYTES, NEAR, PIXELS, Cleaned, Overlap, Pair
from transferset import report
from transferset.errors import DataError
from transferset.images import MAX_PIXELS, decode
from transferset.writes import atomic_file

MOST_SHOWN = 60
_SAYS = {BYTES: "the same bytes", PIXELS: "the same pixels", NEAR: "looks the same"}


def write_page(path: Path, overlap: Overlap, cleaning: Cleaned, before_html: str = "") -> None:
    """Write the page; `before_html` comes before the pairs. At most 60 pairs of each kind are shown."""
    with atomic_file(path, "w") as file:
        file.write(report.page("Copies in labelled splits", before_html + _body(overlap, cleaning)))


def _body(overlap: Overlap, cleaning: Cleaned) -> str:
    gone = {pair.second for pair in cleaning.dropped}
    conflicts = overlap.conflicts()
    parts = [
        _section("Under two labels", conflicts, overlap, gone),
        _section("Exact copies in two splits", overlap.across(overlap.exact), overlap, gone),
        _section("Near copies in two splits", overlap.across(overlap.near), overlap, gone),
        _section("Exact copies within a split", overlap.within(overlap.exact), overlap, gone),
        _section("Near copies within a split", overlap.within(overlap.near), overlap, gone),
    ]
    if overlap.unchecked:
        parts.append(
            f'<p class="warning">{overlap.unchecked:,} less promising suspects were not compared: '
            "near copies among them are not shown.</p>"
        )
    if not overlap.pairs:
        parts.append("<p>No copies were found.</p>")
    return "\n".join(part for part in parts if part)


def _section(title: str, pairs: Sequence[Pair], overlap: Overlap, gone: set[int]) -> str:
    if not pairs:
        return ""
    head = f"<h2>{report.text(title)}: {len(pairs):,}</h2>"
    if len(pairs) > MOST_SHOWN:
        head += f'<p class="quiet">the first {MOST_SHOWN} are shown</p>'
    return head + "\n".join(_row(pair, overlap, gone) for pair in pairs[:MOST_SHOWN])


def _row(pair: Pair, overlap: Overlap, gone: set[int]) -> str:
    figures = []
    for place in (pair.first, pair.second):
        image = overlap.image(place)
        name = image.path
        if name.is_relative_to(overlap.labelled.root):
            name = name.relative_to(overlap.labelled.root)
        caption = f"{report.text(image.split or 'image')} · {report.text(image.label)}<br>{report.text(name)}"
        if place in gone:
            caption += "<br><b>left out</b>"
        figures.append(report.figure(_thumbnail(image.path), caption, "odd" if place in gone else ""))
    says = _SAYS[pair.kind] + (f", {pair.agreement:.2f}" if pair.agreement is not None else "")
    return f'<div class="row">{"".join(figures)}<p class="quiet">{report.text(says)}</p></div>'


def _thumbnail(path: Path) -> str:
    try:
        return report.thumbnail(decode(path.read_bytes(), short_side=128, max_pixels=MAX_PIXELS))
    except (OSError, DataError):
        return ""
