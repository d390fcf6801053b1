"""`distill` in processes of their own that kill themselves (SIGKILL: nothing is cleaned up) at a moment."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TRAIN_STEP = "distill.loop.trainer:Trainer.train_step"
ROOT = Path(__file__).resolve().parents[3]
TIMEOUT = 240

# Counts the calls of one function, dies when it is called for the n-th time, and tells the count at the end.
_PROGRAM = """
{first}
import atexit, functools, importlib, os, signal, sys
module, _, path = sys.argv.pop(1).partition(":")
fatal = int(sys.argv.pop(1))
owner = importlib.import_module(module)
*outer, name = path.split(".")
for part in outer:
    owner = getattr(owner, part)
original, calls = getattr(owner, name), []

@functools.wraps(original)
def counted(*arguments, **options):
    calls.append(1)
    if len(calls) == fatal:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **options)

setattr(owner, name, counted)
atexit.register(lambda: print(f"calls: {len(calls)}", file=sys.stderr))
from distill.cli import main
main()
"""


@dataclass(frozen=True)
class Resumed:
    """What the second process, which nobody killed, has printed, and how often it called the function."""

    stdout: str
    stderr: str
    calls: int


def start(program: str, arguments: Sequence[object]) -> "subprocess.Popen[str]":
    """A fresh interpreter with the project in it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(program: str, arguments: Sequence[object]) -> "subprocess.CompletedProcess[str]":
    """The same, to its end."""
    with start(program, arguments) as process:
        try:
            stdout, stderr = process.communicate(timeout=TIMEOUT)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def kill(arguments: Sequence[object], function: str, call: int, first: str = "") -> None:
    """Run `distill` until it calls `function` (`module:Class.name`) for the `call`-th time, and dies; `first`
    is what the process runs before."""
    killed = run(_PROGRAM.replace("{first}", first), [function, call, *arguments])
    assert killed.returncode == -signal.SIGKILL, killed.stderr


def resume(arguments: Sequence[object], function: str) -> Resumed:
    """Run `distill` to its end, which must be a good one."""
    done = run(_PROGRAM.replace("{first}", ""), [function, 0, *arguments])
    assert done.returncode == 0, done.stderr
    errors, _, calls = done.stderr.rpartition("calls: ")
    return Resumed(done.stdout, errors, int(calls))
