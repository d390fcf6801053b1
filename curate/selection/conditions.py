"""Conditions on an item's metadata, `NAME OP VALUE`: on a column of the index, or a key of the pool's JSON.

A missing value meets no condition, not even `!=`. Numbers compare as numbers where both sides are, else text
compares as text, so that ISO dates order rightly.
"""

import json
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from curate.index.layout import items_schema
from transferset.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

EXTRA = "extra"
HOW = "write NAME OP VALUE with one of ==, !=, <, <=, >, >=, ~ (contains) or in (one of a,b,c)"
MOST_CHARACTERS = 1_000
_CONDITION = re.compile(
    r"\s*([^=!<>~]+?)\s*(==|!=|<=|>=|=(?!=)|<(?!=)|>(?!=)|~|\s[iI][nN]\s)\s*(.+?)\s*", re.DOTALL
)
_INTERNAL = ("item_id", "root", "offset", "mtime_ns", "perceptual_hash", EXTRA)
_WHOLE = re.compile(r"[+-]?\d{1,40}", re.ASCII)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Condition:
    """One condition. `name` is a column of items.arrow, else a key of `extra`; `extra.NAME` is the latter in
    any case, and dots in it go down into objects."""

    name: str
    operator: str
    value: str

    @cached_property
    def key(self) -> str | None:
        """The key of `extra` that it looks at; None if it looks at a column."""
        if self.name.startswith(f"{EXTRA}."):
            return self.name[len(EXTRA) + 1 :]
        return None if self.name in columns() else self.name

    @cached_property
    def wanted(self) -> tuple[str, ...]:
        """The value, or the values of `in`."""
        if self.operator != "in":
            return (self.value,)
        return tuple(one.strip() for one in self.value.strip("()").split(","))

    @cached_property
    def numbers(self) -> tuple[float | None, ...]:
        """The values as numbers, where they are."""
        return tuple(as_number(one) for one in self.wanted)

    def of_column(self, column: "pa.Array") -> "pa.Array":
        """Which values of a column meet it: (n,) booleans, null for null."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if self.operator == "~":
            return pc.match_substring(column.cast(pa.string()), self.value, ignore_case=True)
        numeric = pa.types.is_integer(column.type)
        values = self.numbers if numeric else self.wanted
        if numeric:
            column = column.cast(pa.float64())
        compare = {
            "==": pc.equal, "!=": pc.not_equal, "<": pc.less, "<=": pc.less_equal,
            ">": pc.greater, ">=": pc.greater_equal,
        }  # fmt: skip
        if self.operator == "in":
            return pc.is_in(column, pa.array(values, column.type), skip_nulls=True)
        return compare[self.operator](column, pa.scalar(values[0], column.type))

    def of_value(self, value: Any) -> bool:
        """Whether a value out of JSON meets it."""
        if value is None:
            return False
        if isinstance(value, dict | list):
            text = json.dumps(value, ensure_ascii=False)
            return self.operator == "~" and self.value.casefold() in text.casefold()
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if self.operator == "~":
            return self.value.casefold() in text.casefold()
        pairs = zip(self.wanted, self.numbers, strict=True)
        if self.operator == "in":
            return any(_compare("==", text, wanted, number) for wanted, number in pairs)
        return any(_compare(self.operator, text, wanted, number) for wanted, number in pairs)


def parse_condition(text: str) -> Condition:
    """A condition from its text; UsageError if it is none, or compares a number with something else."""
    match = _CONDITION.fullmatch(text) if len(text) <= MOST_CHARACTERS else None
    if match is None:
        raise UsageError(f"--where {text[:80]!r} is not a condition", hint=HOW)
    name, sign, value = match[1], match[2].strip().lower(), match[3]
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        value = value[1:-1]
    condition = Condition(name, "==" if sign == "=" else sign, value)
    if name in columns() and columns()[name] and condition.operator != "~" and None in condition.numbers:
        raise UsageError(f"--where {text!r}: {name} is a number, and {value!r} is not", hint=HOW)
    return condition


@cache
def columns() -> dict[str, bool]:
    """The columns of items.arrow that conditions can name, and whether they are numbers."""
    import pyarrow as pa

    kinds = {field.name: field.type for field in items_schema() if field.name not in _INTERNAL}
    return {name: pa.types.is_integer(kind) for name, kind in kinds.items()}


def unknown_name(names: Sequence[str], keys: Sequence[str]) -> UsageError:
    """The error for names that no item has; `keys` are those that were seen."""
    there = ", ".join([*columns(), *keys])
    return UsageError(
        f"--where: no image has {' or '.join(repr(name) for name in names)}",
        hint=f"there are {there}",
    )


def look_up(metadata: Mapping[str, Any], key: str) -> Any:
    """The value under a key, which may be a path with dots; None if there is none."""
    if key in metadata:
        return metadata[key]
    head, dot, rest = key.partition(".")
    inside = metadata.get(head)
    return look_up(inside, rest) if dot and isinstance(inside, dict) else None


def as_number(text: str) -> float | None:
    """A finite number, whole ones exactly; None if the text is none."""
    if _WHOLE.fullmatch(text):
        return int(text)
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _compare(sign: str, text: str, wanted: str, number: float | None) -> bool:
    own = as_number(text) if number is not None else None
    if own is not None:
        return _COMPARE[sign](own, number)
    if number is not None and sign not in ("==", "!="):
        return False
    return _COMPARE[sign](text, wanted)
