"""report.html of a fetched set: what came, what didn't and why, and the pictures by class."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curate.fetch.agreement import Threshold
from curate.fetch.chunks import Outcome
from curate.fetch.reasons import CHANGED
from curate.fetch.verdicts import Refused, Verdicts
from curate.selection.removed import LEAKS, NEAR_DUPLICATE, QUERY
from transferset.report import class_name, figure, page, table, text, thumbnail_of

MOST_BYTES = 9_000_000
_SIDE = 96
_MOST_PICTURES = 1_200
_MOST_LISTED = 500
_MOST_REFUSED_SHOWN = 60


@dataclass(frozen=True)
class Fetched:
    """What the report tells; `numbers` and `guard` are the manifest's."""

    chosen: Sequence[Mapping[str, Any]]
    outcomes: Mapping[int, Outcome]
    verdicts: Verdicts
    threshold: Threshold
    numbers: Mapping[str, Any]
    guard: Mapping[str, Any]


class _Pictures:
    """Figures until the page is full, then captions."""

    def __init__(self, outcomes: Mapping[int, Outcome]) -> None:
        self._outcomes = outcomes
        self._left = MOST_BYTES

    def figure(self, place: int, caption_html: str) -> str:
        uri = self._uri(place)
        self._left -= len(uri)
        if not uri or self._left < 0:
            return f"<figure><figcaption>(no picture)<br>{caption_html}</figcaption></figure>"
        return figure(uri, caption_html)

    def _uri(self, place: int) -> str:
        return thumbnail_of(self._outcomes[place].read, _SIDE) if self._left >= 0 else ""


def build_report(fetched: Fetched) -> str:
    """The page, in one file. Every URL, name and label in it is escaped."""
    pictures = _Pictures(fetched.outcomes)
    sections = [
        _summary(fetched),
        _reasons(fetched),
        _balance(fetched),
        _kept_out(fetched, pictures),
        _classes(fetched, pictures),
        _listed(fetched),
    ]
    return page("Transfer set, fetched", "\n".join(section for section in sections if section))


def _summary(fetched: Fetched) -> str:
    numbers, told = fetched.numbers, []
    told.append(f"{numbers['fetched']} of {numbers['chosen']} chosen images were fetched.")
    unchanged = numbers["unchanged"]
    parts = [
        (unchanged["by_recorded_hash"], "have the hash that the pool's metadata records"),
        (
            unchanged["by_agreement"],
            f"agree with the row in the index (at least {fetched.threshold.value},"
            f" {fetched.threshold.source})",
        ),
        (
            unchanged["not_told"],
            f"could not be distinguished from changed images: {fetched.threshold.source}",
        ),
    ]
    told += [f"{count} {what}." for count, what in parts if count]
    if numbers["agreement"] is not None:
        agreement = numbers["agreement"]
        told.append(
            f"Cosine to the row in the index: {agreement['min']:.3f} least, {agreement['median']:.3f} median."
        )
    told.append(f"Leakage: {fetched.guard['statement']}.")
    return "\n".join(f"<p>{text(one)}</p>" for one in told)


def _reasons(fetched: Fetched) -> str:
    counts = fetched.numbers["not_fetched"]
    if not counts:
        return ""
    rows = [[text(reason), str(count)] for reason, count in counts.items()]
    return "<h2>Not fetched</h2>" + table(["why", "images"], rows)


def _balance(fetched: Fetched) -> str:
    kept = set(fetched.verdicts.kept)
    chosen = Counter(row["hinted_label"] for row in fetched.chosen)
    came = Counter(row["hinted_label"] for place, row in enumerate(fetched.chosen) if place in kept)
    rows = [
        [class_name(label), str(count), str(came[label]), f"{100 * came[label] / count:.0f} %"]
        for label, count in sorted(chosen.items(), key=lambda one: one[0] or "")
    ]
    return "<h2>By class</h2>" + table(["class", "chosen", "fetched", "share"], rows)


def _kept_out(fetched: Fetched, pictures: _Pictures) -> str:
    """Images that came and are not taken, by the reasons that are worth a look."""
    looked_at = (*LEAKS, QUERY, CHANGED, NEAR_DUPLICATE)
    shown = sorted(
        (one for one in fetched.verdicts.refused if one.reason in looked_at),
        key=lambda one: (looked_at.index(one.reason), one.place),
    )[:_MOST_REFUSED_SHOWN]
    if not shown:
        return ""
    figures = [
        pictures.figure(one.place, f"<b>{text(one.reason)}</b><br>{text(one.detail)}") for one in shown
    ]
    return "<h2>Downloaded, but kept out</h2>" + "".join(figures)


def _classes(fetched: Fetched, pictures: _Pictures) -> str:
    by_class: dict[str | None, list[int]] = defaultdict(list)
    for place in fetched.verdicts.kept:
        by_class[fetched.chosen[place]["hinted_label"]].append(place)
    most = max(8, _MOST_PICTURES // max(1, len(by_class)))
    sections = []
    for label, places in sorted(by_class.items(), key=lambda one: one[0] or ""):
        shown = sorted(places, key=lambda place: (fetched.chosen[place]["rank"] or 0, place))[:most]
        told = f" ({len(shown)} of {len(places)} shown)" if len(shown) < len(places) else ""
        figures = "".join(pictures.figure(place, _caption(fetched.chosen[place])) for place in shown)
        sections.append(f"<h2>{class_name(label)}{told}</h2>{figures}")
    return "\n".join(sections)


def _caption(row: Mapping[str, Any]) -> str:
    return "" if row["similarity"] is None else f"{row['similarity']:.3f}, rank {row['rank']}"


def _listed(fetched: Fetched) -> str:
    refused: Sequence[Refused] = fetched.verdicts.refused
    if not refused:
        return ""
    rows = [
        [text(one.reason), text(one.detail), text(fetched.chosen[one.place]["url"] or "")]
        for one in refused[:_MOST_LISTED]
    ]
    told = (
        f" ({_MOST_LISTED} of {len(refused)}; not_fetched.parquet has all)"
        if len(refused) > _MOST_LISTED
        else ""
    )
    return f"<h2>What was not fetched{told}</h2>" + table(["why", "in detail", "URL"], rows)
