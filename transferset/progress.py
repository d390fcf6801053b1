"""How far a long loop is: on stderr, with rate and time left."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any, Protocol

from transferset.console import one_line, say_again

_PLAIN_INTERVAL = 10.0


class Progress(Protocol):
    """What a long loop tells: how much is done, and a note."""

    def advance(self, n: int = 1) -> None:
        """Count `n` more units as done."""

    def note(self, text: str) -> None:
        """Show `text` beside the numbers from now on."""


class _PlainProgress:
    """Lines on stderr, at most one every ten seconds and one at the end."""

    def __init__(self, description: str, total: int | None, unit: str, initial: int) -> None:
        self._description, self._total, self._unit = description, total, unit
        self._initial = self._done = initial
        self._text = ""
        self._start = self._last = time.monotonic()

    def advance(self, n: int = 1) -> None:
        self._done += n
        if time.monotonic() - self._last >= _PLAIN_INTERVAL:
            self.line()

    def note(self, text: str) -> None:
        self._text = text

    def line(self) -> None:
        """Print where the loop is."""
        self._last = time.monotonic()
        elapsed = self._last - self._start
        rate = (self._done - self._initial) / max(elapsed, 1e-9)
        of = "" if self._total is None else f"/{self._total}"
        parts = [f"{self._description}: {self._done}{of} {self._unit}", f"{rate:.1f} {self._unit}/s"]
        if self._total is not None and self._done < self._total and rate > 0:
            parts.append(f"{_duration((self._total - self._done) / rate)} left")
        else:
            parts.append(_duration(elapsed))
        say_again(", ".join([*parts, self._text] if self._text else parts))


class _BarProgress:
    def __init__(self, bar: Any, task: Any) -> None:
        self._bar, self._task = bar, task

    def advance(self, n: int = 1) -> None:
        self._bar.advance(self._task, n)

    def note(self, text: str) -> None:
        self._bar.update(self._task, note=one_line(text))


@contextlib.contextmanager
def progress(description: str, total: int | None, unit: str, initial: int = 0) -> Iterator[Progress]:
    """Show the progress of a loop on stderr: a bar on a terminal, else a plain line at most every ten
    seconds.

    `total` None means unknown; `initial` units were done before (a resumed run) and don't count for the rate.
    """
    if not sys.stderr.isatty():
        plain = _PlainProgress(description, total, unit, initial)
        yield plain
        plain.line()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class RateColumn(ProgressColumn):
        """Units per second."""

        def render(self, task: Task) -> Text:
            rate = task.finished_speed or task.speed
            return Text("" if rate is None else f"{rate:.1f}/s")

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}", markup=False),
        RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with RichProgress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(one_line(description), total=total, completed=initial, unit=unit, note="")
        yield _BarProgress(bar, task)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
