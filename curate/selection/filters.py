"""Filters: what may be retrieved at all, by size, caption and the pool's metadata.

They are applied to the whole index before the search, so that quotas fill with what they leave and every
strategy obeys them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.foreign_json import stored_object
from curate.index.layout import BATCH_ROWS
from curate.selection.conditions import (
    EXTRA,
    MOST_CHARACTERS,
    Condition,
    columns,
    look_up,
    parse_condition,
    unknown_name,
)
from transferset.errors import UsageError
from transferset.progress import progress

if TYPE_CHECKING:
    import pyarrow as pa

    from curate.index.index import Index

_MOST_KEYS = 100


@dataclass(frozen=True)
class Filters:
    """Conditions that an item must meet, all of them; checked when made (UsageError).

    Attributes:
        min_side: minimum length of the shorter side, in pixels.
        max_aspect: largest ratio of the longer to the shorter side, at least 1.
        caption_contains: texts that the caption must contain, in any case of letters.
        caption_matches: a regular expression (RE2, which no pattern can make slow) that matches a piece of
            the caption, in any case of letters.
        where: conditions `NAME OP VALUE` on the metadata (see `conditions`).
    """

    min_side: int | None = None
    max_aspect: float | None = None
    caption_contains: tuple[str, ...] = ()
    caption_matches: str | None = None
    where: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for text in (*self.caption_contains, self.caption_matches or "", *self.where):
            if not text.isascii() and text != text.encode("utf-8", "ignore").decode("utf-8"):
                raise UsageError(f"a filter holds characters that are not text: {text[:80]!a}")
        if self.min_side is not None and self.min_side < 1:
            raise UsageError(f"--min-side must be at least 1 pixel, got {self.min_side}")
        if self.max_aspect is not None and not self.max_aspect >= 1:
            raise UsageError(f"--max-aspect is a ratio of at least 1, got {self.max_aspect}")
        if any(not text or len(text) > MOST_CHARACTERS for text in self.caption_contains):
            raise UsageError(f"--caption-contains takes 1 to {MOST_CHARACTERS} characters")
        if self.caption_matches is not None:
            _check_pattern(self.caption_matches)
        _ = self.conditions

    @property
    def active(self) -> bool:
        """Whether anything is filtered."""
        return self != Filters()

    @cached_property
    def conditions(self) -> tuple[Condition, ...]:
        """`where`, parsed."""
        return tuple(parse_condition(text) for text in self.where)

    def masks(self, batch: "pa.RecordBatch") -> "Iterator[pa.Array]":
        """For every condition on a column, which rows of a batch of items.arrow meet it."""
        import pyarrow.compute as pc

        width, height = batch.column("width"), batch.column("height")
        if self.min_side is not None:
            yield pc.greater_equal(pc.min_element_wise(width, height, skip_nulls=False), self.min_side)
        if self.max_aspect is not None:
            short = pc.min_element_wise(width, height, skip_nulls=False)
            long = pc.max_element_wise(width, height, skip_nulls=False)
            yield pc.less_equal(
                pc.cast(long, "double"), pc.multiply(pc.cast(short, "double"), self.max_aspect)
            )
        for text in self.caption_contains:
            yield pc.match_substring(batch.column("caption"), text, ignore_case=True)
        if self.caption_matches is not None:
            yield pc.match_substring_regex(batch.column("caption"), self.caption_matches, ignore_case=True)
        for condition in self.conditions:
            if condition.key is None:
                yield condition.of_column(batch.column(condition.name))


def blocked_rows(index: "Index", filters: Filters) -> np.ndarray:
    """(rows,) uint8 by row number (see `Numbering`): 1 where an item is filtered out, or is one that no
    search gives out. An item that stands at several positions is judged by its smallest.

    The metadata is read in batches; memory is one byte a row. UsageError where a condition names what no
    item has.
    """
    blocked = np.zeros(sum(part.rows for part in index.parts), np.uint8)
    of_extra = _ExtraConditions([one for one in filters.conditions if one.key is not None])
    start = 0
    with progress("filtering", len(blocked), "images") as bar:
        for part in index.parts:
            for number in range(part.items.num_record_batches):
                batch = part.items.get_batch(number)
                first = start + number * BATCH_ROWS
                passed = np.ones(len(batch), dtype=bool)
                for mask in filters.masks(batch):
                    passed &= mask.fill_null(False).to_numpy(zero_copy_only=False)
                of_extra.apply(batch.column(EXTRA), passed)
                blocked[first : first + len(batch)] = ~passed
                bar.advance(len(batch))
            start += part.rows
    of_extra.check()
    blocked[index.hidden] = 1
    return blocked


class _ExtraConditions:
    """Conditions on keys of `extra`, and which of their keys were seen."""

    def __init__(self, conditions: list[Condition]) -> None:
        self._conditions = conditions
        self._unseen = {str(condition.key): condition.name for condition in conditions}
        self._keys: set[str] = set()
        self._asked = False

    def apply(self, column: "pa.Array", passed: np.ndarray) -> None:
        """Strike out of `passed` (n,), in place, what doesn't meet them."""
        if not self._conditions:
            return
        rows = np.flatnonzero(passed)
        for row in rows.tolist():
            self._asked = True
            metadata = stored_object(column[row].as_py()) or {}
            if len(self._keys) < _MOST_KEYS:
                self._keys.update(metadata)
            met = [self._met(condition, metadata) for condition in self._conditions]
            passed[row] = all(met)

    def _met(self, condition: Condition, metadata: dict[str, Any]) -> bool:
        value = look_up(metadata, str(condition.key))
        if value is not None or condition.key in metadata:
            self._unseen.pop(str(condition.key), None)
        return condition.of_value(value)

    def check(self) -> None:
        """UsageError if a key was looked for and no item had it."""
        if self._asked and self._unseen:
            known = [f"{EXTRA}.{key}" if key in columns() else key for key in sorted(self._keys)]
            raise unknown_name(list(self._unseen.values()), known)


def _check_pattern(pattern: str) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pattern or len(pattern) > MOST_CHARACTERS:
        raise UsageError(f"--caption-matches takes 1 to {MOST_CHARACTERS} characters")
    try:
        pc.match_substring_regex(pa.array([""]), pattern, ignore_case=True)
    except pa.ArrowInvalid as error:
        raise UsageError(
            f"--caption-matches {pattern!r} is not a regular expression: {error}",
            hint="the syntax is RE2, without look-around and back-references",
        ) from error
