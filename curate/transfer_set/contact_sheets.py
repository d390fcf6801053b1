"""Contact sheets: for each class, queries with what they drew, and the images furthest from their class."""

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from curate.selection.queries import QuerySet
from curate.selection.selection import Pick, Selection
from curate.transfer_set.measures import ODD_FROM, Closeness
from curate.transfer_set.pictures import Picture, Pictures
from transferset.report import class_name, text

if TYPE_CHECKING:
    from curate.index.index import Index

T = TypeVar("T")

MOST_SHEETS = 60
MOST_PICTURES = 1_500
MOST_RANDOM = 200
_MOST_ROWS, _MOST_IN_ROW, _LEAST_IN_ROW = 5, 8, 3
_MOST_ODD = 6


class ContactSheets:
    """Makes the sheets of one selection within a budget of pictures."""

    def __init__(
        self,
        index: "Index",
        query_set: QuerySet,
        selection: Selection,
        closeness: dict[str | None, Closeness],
        pictures: Pictures,
    ) -> None:
        self._index, self._query_set, self._selection = index, query_set, selection
        self._closeness, self._pictures = closeness, pictures
        self._picks: dict[int | None, list[Pick]] = {}
        for pick in selection.picks:
            self._picks.setdefault(pick.query, []).append(pick)
        self._members: dict[str | None, list[int]] = {}
        for number, label in enumerate(query_set.labels):
            self._members.setdefault(label, []).append(number)

    def of_classes(self) -> str:
        """A sheet a class; of many classes the furthest from their queries and some of the others."""
        shown = self._chosen_classes()
        a_class = MOST_PICTURES // len(shown) - _MOST_ODD
        in_row = max(_LEAST_IN_ROW, min(_MOST_IN_ROW, a_class // _MOST_ROWS - 1))
        rows = max(1, min(_MOST_ROWS, a_class // (in_row + 1)))
        sheets = [self._sheet(label, rows, in_row) for label in shown]
        left_out = len(self._members) - len(shown)
        if left_out:
            told = (
                f"{len(shown)} of {len(self._members)} classes are shown: half of them those whose images "
                "are the least similar to their queries, half spread evenly over the others."
            )
            sheets.insert(0, f'<p class="quiet">{told}</p>')
        return "\n".join(sheets)

    def of_random(self) -> str:
        """What was drawn at random."""
        picks = self._selection.picks[:MOST_RANDOM]
        told = f"{len(picks)} of {len(self._selection.picks)} images are shown."
        return f'<p class="quiet">{told}</p>' + self._pictures.row(
            [Picture(one.position, "") for one in picks]
        )

    def _chosen_classes(self) -> list[str | None]:
        classes = list(self._members)
        if len(classes) <= MOST_SHEETS:
            return classes
        doubtful = sorted(classes, key=lambda label: (self._similarity(label), label or ""))
        first, others = doubtful[: MOST_SHEETS // 2], doubtful[MOST_SHEETS // 2 :]
        chosen = {*first, *spread(others, MOST_SHEETS - len(first))}
        return [label for label in classes if label in chosen]

    def _similarity(self, label: str | None) -> float:
        """The median similarity of a class's images to their queries; -1 if it has none."""
        own = [pick.similarity for one in self._members[label] for pick in self._picks.get(one, [])]
        return median(value for value in own if value is not None) if own else -1.0

    def _sheet(self, label: str | None, most_rows: int, in_row: int) -> str:
        members = self._members[label]
        closing = self._selection.closing
        ordered = sorted(members, key=lambda one: (-(closing[one] or -1.0), one))
        shown = spread(ordered, most_rows)
        count = sum(len(self._picks.get(one, [])) for one in members)
        facts = f"{count} images for {len(members)} queries"
        if count:
            facts += f", median similarity {self._similarity(label):.3f}"
        if len(shown) < len(members):
            facts += f". {len(shown)} of the queries are shown, from the closest to the furthest"
        rows = [self._pictures.row(self._query_row(number, in_row)) for number in shown]
        head = f'<h3>{class_name(label)}</h3>\n<p class="quiet">{facts}.</p>\n'
        return head + "\n".join(rows) + self._odd_row(label)

    def _query_row(self, number: int, most: int) -> list[Picture]:
        """The query, its best images, and the one that it closed with; odd ones are marked."""
        query, selection = self._query_set.queries[number], self._selection
        own = self._closeness.get(query.label)
        odd = set(own.positions[: own.odd].tolist()) if own else set()
        filled = f"{selection.filled[number]} of {selection.quotas[number]}"
        row = [
            Picture(query, f"<b>query</b> {text(short(query.name.rpartition('/')[2]))}<br>{filled}", "query")
        ]
        picks = self._picks.get(number, [])
        chosen = picks if len(picks) <= most else [*picks[: most - 1], picks[-1]]
        items = self._index.items(np.array([pick.position for pick in chosen], dtype=np.int64))
        for pick, item in zip(chosen, items, strict=True):
            caption = f"<br>{text(short(item.caption))}" if item.caption else ""
            told = f"{pick.similarity:.3f}, rank {pick.rank}{caption}"
            row.append(Picture(pick.position, told, "odd" if pick.position in odd else ""))
        return row

    def _odd_row(self, label: str | None) -> str:
        """The images furthest from the class's others."""
        own = self._closeness.get(label)
        if own is None or len(own.positions) < ODD_FROM:
            return ""
        row = [
            Picture(position, f"{cosine:.3f}", "odd" if place < own.odd else "")
            for place, (position, cosine) in enumerate(
                zip(own.positions[:_MOST_ODD].tolist(), own.cosines.tolist(), strict=False)
            )
        ]
        told = (
            "Furthest from the class: mean similarity to its other images, whose median is "
            f"{np.median(own.cosines):.3f}."
        )
        if own.odd:
            told += f" {own.odd} stand out, marked in orange."
        return f'\n<p class="quiet">{told}</p>\n{self._pictures.row(row)}'


def spread(ordered: Sequence[T], most: int) -> list[T]:
    """Up to `most` of `ordered`, evenly spaced, the first and the last among them."""
    if len(ordered) <= most:
        return list(ordered)
    places = np.linspace(0, len(ordered) - 1, most).round().astype(int)
    return [ordered[place] for place in places]


def short(words: str, length: int = 60) -> str:
    """`words`, cut to `length` signs."""
    return words if len(words) <= length else words[: length - 1] + "…"
