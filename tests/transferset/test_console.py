import errno
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from transferset import errors
from transferset.console import (
    each_message_once,
    known_error,
    print_json,
    print_table,
    progress,
    say,
    visible,
)

ROOT = Path(__file__).parents[2]
RunPython = Callable[..., subprocess.CompletedProcess[str]]

APP = """
import errno, os, signal, sys, time
import typer
from transferset import errors
from transferset.console import run_cli

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
    assert done.stdout == "" or not arguments
    if arguments:
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


def test_known_errors_are_found_however_deep() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    outer = errors.DataError("the part cannot be written")
    outer.__cause__ = full
    found = known_error(outer)
    assert isinstance(found, errors.DiskError)
    assert isinstance(
        known_error(RuntimeError("Error: write failed: No space left on device")), errors.DiskError
    )
    assert isinstance(known_error(OSError(errno.EDQUOT, "quota")), errors.DiskError)
    assert isinstance(
        known_error(RuntimeError("DefaultCPUAllocator: not enough memory")), errors.OutOfMemoryError
    )
    gpu = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
    assert isinstance(known_error(gpu), errors.OutOfMemoryError)
    busy = errors.BusyError("busy")
    busy.__cause__ = full
    assert known_error(busy) is busy
    assert known_error(KeyError("x")) is None
    loop = ValueError("a")
    loop.__cause__ = loop
    assert known_error(loop) is None


def test_a_full_device_is_a_disk_error_from_arrow_too() -> None:
    # Through a stream: given a path, pyarrow removes what it could not write, here the device.
    with pytest.raises(OSError, match="No space left") as caught, pa.OSFile("/dev/full", "wb") as full:
        full.write(b"x" * 100_000)
    assert isinstance(known_error(caught.value), errors.DiskError)


@pytest.mark.parametrize(
    ("code", "kind", "hint"),
    [
        (errno.ENOSPC, errors.DiskError, "free some space"),
        (errno.EROFS, errors.DiskError, "read-only"),
        (errno.EIO, errors.DiskError, "disk fails"),
        (errno.EACCES, errors.DataError, "the right to read and write"),
    ],
)
def test_a_hint_fits_what_the_system_said(code: int, kind: type[errors.TransfersetError], hint: str) -> None:
    found = known_error(OSError(code, os.strerror(code), "/x"))
    assert type(found) is kind and found.message == f"/x: {os.strerror(code)}"
    assert found.hint is not None and hint in found.hint


def test_messages_go_to_stderr_with_controls_visible(capsys: pytest.CaptureFixture[str]) -> None:
    say("name\x1b]0;title\x07\r\udcff\u202e[bold]")
    out, err = capsys.readouterr()
    assert out == "" and err == "name\\x1b]0;title\\x07\\r\\udcff\\u202e[bold]\n"
    assert visible("a\tb\nc é 漢") == "a\tb\nc é 漢"
    say("a\nhint: b\tc")
    assert capsys.readouterr().err == "a\\nhint: b\\tc\n", "a name can't forge a line"


def test_what_stages_repeat_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    with each_message_once():
        for _ in range(2):
            say("a copy")
            say("another")
    assert capsys.readouterr().err == "a copy\nanother\n"
    say("a copy")
    say("a copy")
    assert capsys.readouterr().err == "a copy\na copy\n"


def test_json_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"b": 1, "a": ["x\x1b"]})
    out, err = capsys.readouterr()
    assert json.loads(out) == {"a": ["x\x1b"], "b": 1} and err == "" and "\x1b" not in out


def test_tables_show_everything_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 150
    print_table("[t]", ["name", "[red]n"], [["[bold]a", "1"], [long, "\x1b[31m"]])
    out = capsys.readouterr().out
    assert all(part in out for part in ("[t]", "[red]n", "[bold]a", long, "\\x1b[31m")) and "\x1b" not in out


def test_plain_progress_tells_little_and_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with progress("embedding", 60, "images", initial=10) as bar:
        for _ in range(50):
            now[0] += 0.5
            bar.advance()
        bar.note("3 unreadable")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "embedding: 30/60 images, 2.0 images/s, 0:00:15 left",
        "embedding: 50/60 images, 2.0 images/s, 0:00:05 left",
        "embedding: 60/60 images, 2.0 images/s, 0:00:25, 3 unreadable",
    ]


def test_progress_of_unknown_length(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("reading", None, "files") as bar:
        bar.advance(3)
    assert capsys.readouterr().err.startswith("reading: 3 files, ")


def test_a_terminal_gets_a_bar() -> None:
    code = """
from transferset.console import progress
with progress("embedding [x]", 3, "images") as bar:
    for _ in range(3):
        bar.advance()
        bar.note("note [y]\\x1b[31m")
"""
    leader, follower = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen([sys.executable, "-c", code], stderr=follower, env=environment)
    os.close(follower)
    shown = b""
    try:
        while chunk := os.read(leader, 4096):
            shown += chunk
    except OSError:  # Linux tells the end of a terminal this way
        pass
    os.close(leader)
    assert process.wait() == 0
    assert b"embedding [x]" in shown and b"3/3" in shown and b"note [y]\\x1b[31m" in shown
