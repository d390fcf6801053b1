"""What every command shares on the terminal: messages, tables, JSON.

stdout carries results (a table, or one JSON object); everything else goes to stderr. What comes from outside
(file names, captions) can't move the cursor or colour the terminal: control characters are made visible.
"""

import contextlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

# C0 and C1 controls and the marks that reorder text; newline and tab stay.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(value: object) -> str:
    """`str(value)` with control characters, text-direction marks and undecodable bytes written as escapes."""
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), str(value))


def one_line(value: object) -> str:
    """`visible(value)` with line breaks and tabs as escapes too, so that no name can forge a line of ours."""
    return visible(value).replace("\n", "\\n").replace("\t", "\\t")


_told: ContextVar[set[str] | None] = ContextVar("_told", default=None)


def say(message: str) -> None:
    """One line to stderr."""
    told = _told.get()
    if told is None or message not in told:
        say_again(message)
    if told is not None:
        told.add(message)


@contextlib.contextmanager
def each_message_once() -> Iterator[None]:
    """Within, `say` is silent where it has said the same: for stages that are run again and again on the same
    data."""
    token = _told.set(set())
    try:
        yield
    finally:
        _told.reset(token)


def say_again(message: str) -> None:
    """One line to stderr, even if it was said before."""
    print(one_line(message), file=sys.stderr, flush=True)


def print_json(obj: Any) -> None:
    """One JSON object to stdout."""
    print(json.dumps(obj, indent=2, sort_keys=True, allow_nan=False), flush=True)


def print_table(title: str, columns: list[str], rows: Sequence[Sequence[str]]) -> None:
    """A table to stdout; cells are plain text. Without a terminal nothing is shortened."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(one_line(title)), title_justify="left")
    for column in columns:
        table.add_column(Text(one_line(column)), overflow="fold")
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(table)
