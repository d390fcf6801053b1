"""How a command runs as a process: errors become exit codes, signals end it in order."""

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from transferset.console import say
from transferset.known_errors import known_error

if TYPE_CHECKING:
    import typer

INTERRUPTED = 75
_USAGE = 2


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
