"""report.html: for each class, the queries and what was retrieved for them, as pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.selection.guard import ExcludedSet
from curate.selection.queries import QuerySet
from curate.selection.removed import LEAKS, Removed
from curate.selection.selection import Pick, Selection
from curate.transfer_set.pictures import Picture, Pictures
from transferset.report import page, table, text

if TYPE_CHECKING:
    from curate.index.index import Index

MOST_PICTURES = 1_500
MOST_REMOVED = 40
MOST_RANDOM = 200
_UNGUARDED = "Nothing kept test images out of this set. "
_LEAST_PER_QUERY, _MOST_PER_QUERY = 3, 8
_WARNING = "border:2px solid #c33;background:#c332;padding:.5rem 1rem;font-weight:600"
_REASONS = {
    "exact bytes": "Leak: the bytes of an excluded image",
    "same pixels": "Leak: the pixels of an excluded image",
    "near copy": "Leak: near copy of an excluded image",
    "near duplicate": "Near-duplicate of an image that is taken",
    "query": "Is a query",
}
_ROW = "border-bottom:1px solid #8885;padding:.4rem 0"
_BAR = "display:inline-block;height:.7em;background:#4a90d9;vertical-align:middle;width:"


@dataclass(frozen=True)
class Reported:
    """What the report tells; `outcome` and `guard` are the manifest's."""

    index: "Index"
    query_set: QuerySet
    selection: Selection
    excluded: ExcludedSet | None
    outcome: dict[str, Any]
    guard: dict[str, Any]

    @property
    def drawn(self) -> bool:
        """Whether the images were drawn at random, for no query."""
        return self.selection.picks[0].query is None

    def members(self, label: str | None) -> list[int]:
        """The numbers of a class's queries."""
        return [number for number, own in enumerate(self.query_set.labels) if own == label]


def build_report(reported: Reported) -> str:
    """The page, in one file. Every name and caption in it is escaped."""
    pictures = Pictures(reported.index)
    sections = [
        _summary(reported),
        "" if reported.drawn else _balance(reported),
        _kept_out(reported, pictures),
        _random(reported.selection, pictures) if reported.drawn else _classes(reported, pictures),
        _errors(reported.query_set),
    ]
    return page("Transfer set", "\n".join(section for section in sections if section))


def _summary(reported: Reported) -> str:
    outcome = reported.outcome
    lines = [f"{outcome['retrieved']} of {outcome['requested']} images for {outcome['queries']} queries."]
    if outcome["written_queries"]:
        lines.append(f"The {outcome['written_queries']} queries are in the set too.")
    if outcome["missing"]:
        lines.append(f"{outcome['missing']} are missing.")
    closing = outcome["closing_similarity"]
    if closing is not None:
        lines.append(
            f"Queries closed at similarity {closing['min']:.3f} (least), {closing['median']:.3f} (median)."
        )
    leakage = f"Leakage: {reported.guard['statement']}."
    paragraphs = [" ".join(lines), *reported.query_set.notes]
    if reported.guard["near_duplicates_checked"]:
        paragraphs.append(f"Near-duplicates left out: {outcome['removed']['near duplicate']}.")
    if reported.excluded is not None:
        paragraphs.insert(1, leakage)
    warning = (
        "" if reported.excluded is not None else f'<p style="{_WARNING}">{text(_UNGUARDED + leakage)}</p>\n'
    )
    return warning + "\n".join(f"<p>{text(paragraph)}</p>" for paragraph in paragraphs)


def _balance(reported: Reported) -> str:
    selection = reported.selection
    rows = []
    for label in reported.query_set.classes:
        members = reported.members(label)
        filled = sum(selection.filled[number] for number in members)
        quota = sum(selection.quotas[number] for number in members)
        closing = [one for number in members if (one := selection.closing[number]) is not None]
        bar = f"<span style='{_BAR}{8 * filled / max(1, quota):.2f}em'></span>"
        rows.append(
            [
                _name(label),
                str(len(members)),
                f"{filled} of {quota} {bar}",
                str(min(selection.filled[number] for number in members)),
                f"{min(closing):.3f}" if closing else "",
                f"{median(closing):.3f}" if closing else "",
            ]
        )
    columns = ["class", "queries", "retrieved", "fewest for a query", "closing similarity, least", "median"]
    return "<h2>Balance</h2>" + table(columns, rows)


def _classes(reported: Reported, pictures: Pictures) -> str:
    by_query: dict[int | None, list[Pick]] = {}
    for pick in reported.selection.picks:
        by_query.setdefault(pick.query, []).append(pick)
    classes = reported.query_set.classes
    room = MOST_PICTURES // len(reported.query_set.queries) - 1
    per_query = min(_MOST_PER_QUERY, max(_LEAST_PER_QUERY, room))
    shown = max(1, MOST_PICTURES // (len(classes) * (per_query + 1)))
    sections = []
    for label in classes:
        members = reported.members(label)
        told = "" if len(members) <= shown else f" ({shown} of {len(members)} queries shown)"
        sections.append(f"<h2>{_name(label)}{told}</h2>")
        for number in members[:shown]:
            row = _query_pictures(reported, number, by_query.get(number, []), per_query)
            sections.append(f'<div style="{_ROW}">{pictures.figures(row)}</div>')
    return "\n".join(sections)


def _query_pictures(reported: Reported, number: int, picks: Sequence[Pick], most: int) -> list[Picture]:
    """The query, its best images, and the one that it closed with."""
    query, selection = reported.query_set.queries[number], reported.selection
    filled = f"{selection.filled[number]} of {selection.quotas[number]}"
    row = [Picture(query, f"<b>query</b> {text(query.name)}<br>{filled}")]
    chosen = list(picks) if len(picks) <= most else [*picks[: most - 1], picks[-1]]
    items = reported.index.items(np.array([pick.position for pick in chosen], dtype=np.int64))
    for pick, item in zip(chosen, items, strict=True):
        caption = f"<br>{text(_short(item.caption))}" if item.caption else ""
        row.append(Picture(pick.position, f"{pick.similarity:.3f}, rank {pick.rank}{caption}"))
    return row


def _random(selection: Selection, pictures: Pictures) -> str:
    shown = [Picture(pick.position, "") for pick in selection.picks[:MOST_RANDOM]]
    return f"<h2>Drawn at random ({len(shown)} shown)</h2>" + pictures.figures(shown)


def _kept_out(reported: Reported, pictures: Pictures) -> str:
    """Pool images beside what they are copies of, with reason and scores: of each reason the first few."""
    removed = reported.selection.removed
    sections = []
    for why in (*LEAKS, "near duplicate", "query"):
        some = sorted(
            (one for one in removed if one.why == why), key=lambda one: (-(one.agreement or 0), one.position)
        )
        if some:
            shown = some[:MOST_REMOVED]
            told = f" ({len(shown)} shown)" if len(shown) < len(some) else ""
            rows = [_pair(reported, one, pictures) for one in shown]
            sections.append(f"<h3>{_REASONS[why]}: {len(some)}{told}</h3>")
            sections.append(table(["similarity", "pixels agree", "pair"], rows))
    if not sections:
        return ""
    return f"<h2>Kept out: {len(removed)} images of the pool</h2>" + "".join(sections)


def _pair(reported: Reported, removed: Removed, pictures: Pictures) -> list[str]:
    item = reported.index.item(removed.position)
    if removed.why == "query":
        match = next(one for one in reported.query_set.queries if one.query_id == removed.match)
        other = Picture(match, text(match.name))
    elif removed.why == "near duplicate":
        kept = reported.index.item(bytes.fromhex(removed.match))
        other = Picture(kept.position, f"taken: {text(kept.key)}")
    else:
        assert reported.excluded is not None
        image = next(one for one in reported.excluded.images if one.name == removed.match)
        other = Picture(image.path, text(image.name))
    near = removed.why in ("near copy", "near duplicate")
    pixels = "not read" if near and removed.agreement is None else _score(removed.agreement)
    return [
        _score(removed.similarity),
        pixels,
        pictures.figures([Picture(removed.position, f"pool: {text(item.key)}"), other]),
    ]


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _errors(query_set: QuerySet) -> str:
    if not query_set.errors:
        return ""
    rows = [[text(error.name), _name(error.label), text(error.reason)] for error in query_set.errors]
    return "<h2>Unreadable query images</h2>" + table(["image", "class", "why"], rows)


def _name(label: str | None) -> str:
    return "(no class)" if label is None else text(label)


def _short(caption: str, length: int = 60) -> str:
    return caption if len(caption) <= length else caption[: length - 1] + "…"
