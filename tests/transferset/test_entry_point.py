import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from transferset import errors

ROOT = Path(__file__).parents[2]
RunPython = Callable[..., subprocess.CompletedProcess[str]]

APP = """
import errno, os, signal, sys, time
import typer
from transferset import errors
from transferset.entry_point import run_cli

app = typer.Typer(add_completion=False)

@app.command()
def ok(number: int = 1) -> None:
    print("result", number)

@app.command()
def fail(how: str) -> None:
    kind = getattr(errors, how, None)
    if kind is not None:
        raise kind("[red]it\\x1b[31m broke[/red]", hint="do [bold]this[/bold]")
    if how == "full":
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/x")
        except OSError as error:
            raise RuntimeError("wrapped") from error
    if how == "torch":
        raise type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory")
    if how == "memory":
        raise MemoryError
    if how == "missing":
        open("/does/not/exist")
    if how == "bug":
        raise ZeroDivisionError("a bug")
    if how == "exit":
        raise typer.Exit(4)

@app.command()
def wait() -> None:
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("cleaned", flush=True)

run_cli(app)
"""


def run(run_python: RunPython, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_python(["-c", APP, *arguments])


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("TransfersetError", 1),
        ("UsageError", 2),
        ("DataError", 3),
        ("NumericError", 4),
        ("OutOfMemoryError", 5),
        ("DiskError", 6),
        ("BusyError", 75),
        ("InterruptedRun", 75),
    ],
)
def test_our_errors_give_their_code_as_plain_text(run_python: RunPython, how: str, code: int) -> None:
    done = run(run_python, "fail", how)
    assert done.returncode == code == getattr(errors, how).exit_code
    assert done.stderr == "error: [red]it\\x1b[31m broke[/red]\nhint: do [bold]this[/bold]\n"
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("how", "code", "told"),
    [
        ("full", 6, "error: /tmp/x: No space left on device\nhint: "),
        ("torch", 5, "error: out of memory: CUDA out of memory\nhint: "),
        ("memory", 5, "error: out of memory\nhint: "),
        ("missing", 3, "error: /does/not/exist: No such file or directory"),
        ("exit", 4, ""),
    ],
)
def test_the_worlds_errors_give_theirs(run_python: RunPython, how: str, code: int, told: str) -> None:
    done = run(run_python, "fail", how)
    assert done.returncode == code and done.stderr.startswith(told) and "Traceback" not in done.stderr


def test_a_bug_keeps_its_traceback(run_python: RunPython) -> None:
    done = run(run_python, "fail", "bug")
    assert done.returncode == 1 and "Traceback" in done.stderr and "ZeroDivisionError: a bug" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["ok", "--nmber", "2"], ["ok", "--number", "x"], ["fail"], []]
)
def test_wrong_usage_is_two(run_python: RunPython, arguments: list[str]) -> None:
    done = run(run_python, *arguments)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("error: ") and "--help" in done.stderr


def test_success_and_help_are_zero(run_python: RunPython) -> None:
    assert run(run_python, "ok").stdout == "result 1\n"
    done = run(run_python, "--help")
    assert done.returncode == 0 and "fail" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_clean_up_and_tell_how_to_resume(number: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", APP, "wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 75 and out == "cleaned\n"
    assert err == "error: interrupted\nhint: re-run the same command\n"


def test_a_closed_pipe_is_no_traceback() -> None:
    command = f"{sys.executable} -c 'for n in range(10**5): print(n)' | head -1"
    assert subprocess.run(command, shell=True, capture_output=True, check=True).stdout == b"0\n"
    app = APP.replace('print("result", number)', 'print("x" * 10**6, flush=True)')
    command = f'{sys.executable} -c "$APP" ok | head -c 1'
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "APP": app}
    done = subprocess.run(command, shell=True, capture_output=True, env=environment, check=True)
    assert done.stdout == b"x" and done.stderr == b""
