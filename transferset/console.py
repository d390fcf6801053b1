"""What every command shares on the terminal: exit codes, messages, tables, progress.

stdout carries results (a table, or one JSON object); everything else goes to stderr. What comes from outside
(file names, captions) can't move the cursor or colour the terminal: control characters are made visible.
"""

import contextlib
import errno
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from transferset.errors import DataError, DiskError, OutOfMemoryError, TransfersetError
from transferset.open_files import open_files_error

if TYPE_CHECKING:
    import typer

INTERRUPTED = 75
_USAGE = 2
_PLAIN_INTERVAL = 10.0
_DISK_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
_PATH_ERRNOS = {
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
}
_DISK_WORDS = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|\(os error (28|122|27)\)"
)
_MEMORY_WORDS = re.compile(
    r"can't allocate memory|not enough memory|out of memory|std::bad_alloc|_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)
_PATH_HINTS = {
    errno.EACCES: "give yourself the right to read and write there, or name another place",
    errno.EPERM: "give yourself the right to read and write there, or name another place",
    errno.ENAMETOOLONG: "use a shorter name",
}
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
        _line(message)
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


def _line(message: str) -> None:
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
        _line(", ".join([*parts, self._text] if self._text else parts))


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
        """Units a second."""

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


def run_cli(app: "typer.Typer", args: Sequence[str] | None = None) -> NoReturn:
    """Run a typer app and end the process with the exit code that its errors stand for.

    0 ok, 2 usage, 3 bad data, 4 numeric failure, 5 out of memory, 6 disk, 75 busy or interrupted. Errors
    that we don't know keep their traceback and exit with 1.
    """
    import typer

    command = typer.main.get_command(app)
    interrupts: list[int] = []
    _install_handlers(interrupts)
    try:
        code = command.main(args=list(args) if args is not None else None, standalone_mode=False)
        _end(INTERRUPTED if interrupts and code == 130 else code if isinstance(code, int) else 0)
    except (KeyboardInterrupt, typer.Abort):
        _end(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        _end_with(error)


def _end(code: int) -> NoReturn:
    if code == INTERRUPTED:
        _complain("interrupted", "re-run the same command")
    sys.exit(code)


def _end_with(error: Exception) -> NoReturn:
    """Tell a known error and exit with its code; raise an unknown one."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()  # type: ignore[attr-defined]
        sys.exit(_USAGE)
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # a usage error of the option parser
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else None
        _complain(error.format_message(), f"see {command} --help" if command else None)
        sys.exit(error.exit_code)
    known = known_error(error)
    if known is None:
        raise error
    _complain(known.message, known.hint)
    sys.exit(known.exit_code)


def known_error(error: BaseException) -> TransfersetError | None:
    """The error of ours that `error` stands for, following what it was raised from; None for a bug."""
    if isinstance(error, TransfersetError) and type(error).exit_code != DataError.exit_code:
        return error
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    for link in chain:
        if (isinstance(link, OSError) and link.errno in _DISK_ERRNOS) or _DISK_WORDS.search(str(link)):
            return DiskError(_os_message(link), _disk_hint(link))
        if (too_many := open_files_error(link)) is not None:
            return too_many
        if is_memory_error(link):
            return OutOfMemoryError(
                f"out of memory: {link}".rstrip(": "), "use a smaller --batch-size or fewer --workers"
            )
    if isinstance(error, TransfersetError):
        return error
    if isinstance(error, OSError) and error.errno in _PATH_ERRNOS:
        return DataError(_os_message(error), _PATH_HINTS.get(error.errno or 0))
    return None


def _disk_hint(error: BaseException) -> str:
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.EROFS:
        return "the file system is read-only: name another place"
    if code == errno.EIO:
        return "the disk fails: check it, then re-run the same command"
    return "free some space, then re-run the same command"


def is_memory_error(error: BaseException) -> bool:
    """Whether it says that the memory of the host or of a device did not suffice."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    named = bool(kinds & {"OutOfMemoryError", "MemoryError"})
    return named or (isinstance(error, RuntimeError) and _MEMORY_WORDS.search(str(error)) is not None)


def _os_message(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _complain(message: str, hint: str | None) -> None:
    say(f"error: {message}")
    if hint:
        say(f"hint: {hint}")


def _install_handlers(interrupts: list[int]) -> None:
    """SIGINT and SIGTERM raise KeyboardInterrupt once; a second one ends the process at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        interrupts.append(number)
        signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(ValueError):  # not in the main thread
            signal.signal(number, stop)
