"""Processes killed (SIGKILL) at random moments of their work, which they do under a lock; started again."""

import contextlib
import json
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

MOST_KILLS = 50

Start = Callable[[], "subprocess.Popen[str]"]


def work_seconds(process: "subprocess.Popen[str]", directory: Path) -> float:
    """Let a process end well; how long it took from its lock of `directory` on."""
    begun = wait_for_its_lock(process, directory)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return time.monotonic() - begun


def until_done(start: Start, directory: Path, rng: random.Random, seconds: float) -> int:
    """Start it, kill it within its about `seconds` of work, start it again, …; how often it was killed."""
    for kills in range(MOST_KILLS):
        process = start()
        wait_for_its_lock(process, directory)
        try:
            _, errors = process.communicate(timeout=rng.uniform(0, seconds) * (1 + kills / 10))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            continue
        assert process.returncode == 0, errors
        return kills
    raise AssertionError(f"not done after {MOST_KILLS} kills")


def wait_for_its_lock(process: "subprocess.Popen[str]", directory: Path) -> float:
    """Wait until the process has the lock of `directory` (a killed one leaves its own there), or has ended;
    the time."""
    while process.poll() is None:
        with contextlib.suppress(OSError, ValueError, KeyError):
            if json.loads((directory / ".lock").read_bytes())["pid"] == process.pid:
                break
        time.sleep(0.002)
    return time.monotonic()
