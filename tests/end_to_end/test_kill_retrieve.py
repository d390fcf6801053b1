"""`curate retrieve` killed at chosen moments, at random ones, or on a full disk: the same command goes on,
with the same bytes."""

import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runs import succeeded
from tests.trees import tree

Make = Callable[..., Any]
SHARDS, SINGLE_SHARDS = 6, 60
ROOT = Path(__file__).resolve().parents[2]
KILLS, KILLS_A_RUN = 30, 4

# The command in a process of its own that kills itself (SIGKILL, so that nothing is cleaned up) at a moment.
KILLED = """
import os, signal, sys
from curate.transfer_set import writing

def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

moment = sys.argv.pop(1)
if moment == "within a shard":
    read, count = writing._read, 0
    def dying_read(index, sample):
        global count
        count += 1
        return die() if count == 35 else read(index, sample)
    writing._read = dying_read
elif moment == "before the manifest":
    writing.build_manifest = die
from curate.cli import main
main()
"""

# The command where no file may pass 40,000 bytes, which fails as a full disk does.
CRAMPED = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
from curate.cli import main
main()
"""


@pytest.fixture(scope="module")
def task(make_task: Make) -> list[str]:
    """The command line without --out."""
    root = make_task(90)
    return [
        "retrieve", "--index", str(root / "index"), "--query-dir", str(root / "queries"),
        "--total", "60", "--shard-size", "10", "--workers", "2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("moment", "finished"), [("within a shard", range(1, 4)), ("before the manifest", [SHARDS])]
)
def test_a_killed_run_goes_on(
    moment: str,
    finished: Any,
    task: list[str],
    unbroken: dict[str, bytes],
    tmp_path: Path,
    run_python: Make,
) -> None:
    out = tmp_path / "out"
    killed = run_python(["-c", KILLED, moment, *task, "--out", str(out)])
    assert killed.returncode == -9, killed.stderr
    assert not (out / "manifest.json").exists()
    whole = {path: path.stat().st_mtime_ns for path in (out / "shards").glob("[0-9]*.tar")}
    assert len(whole) in finished

    resumed = succeeded(run_python(["-m", "curate.cli", *task, "--out", str(out)]))
    assert "resuming with the selection" in resumed.stderr, "searching again would be doing what was done"
    assert tree(out) == unbroken
    assert {path: path.stat().st_mtime_ns for path in whole} == whole, "finished shards are kept"


def test_a_full_disk_is_told_and_the_same_command_goes_on(
    task: list[str], unbroken: dict[str, bytes], tmp_path: Path, run_python: Make
) -> None:
    largest = max(len(data) for name, data in unbroken.items() if name.startswith("shards/"))
    assert largest > 40_000
    out = tmp_path / "out"
    full = run_python(["-c", CRAMPED, *task, "--out", str(out)])
    assert full.returncode == 6, full.stderr
    assert "Traceback" not in full.stderr
    assert not list(out.rglob(".tmp-*")) and not (out / "manifest.json").exists()
    succeeded(run_python(["-m", "curate.cli", *task, "--out", str(out)]))
    assert tree(out) == unbroken


@pytest.mark.soak
def test_a_run_killed_again_and_again(task: list[str], tmp_path: Path) -> None:
    """Kills at random moments: some before the selection is stored, most while shards are written."""
    rng = random.Random(0)
    command = [sys.executable, "-m", "curate.cli", *task, "--shard-size", "1", "--out"]
    assert _start([*command, str(tmp_path / "whole")]).wait() == 0
    expected = tree(tmp_path / "whole")
    kills: Counter[str] = Counter()
    trials = 0
    while kills.total() < KILLS:
        out = tmp_path / f"out-{trials}"
        for _ in range(KILLS_A_RUN):
            process = _start([*command, str(out)])
            _wait(process, out, rng)
            process.kill()
            if process.wait() == -9:
                kills[_state(out)] += 1
        assert _start([*command, str(out)]).wait() == 0
        assert tree(out) == expected, f"trial {trials}, {dict(kills)}"
        trials += 1
    print(f"\n{trials} runs, {kills.total()} kills: {dict(kills)}")


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT
    )


def _wait(process: subprocess.Popen[bytes], out: Path, rng: random.Random) -> None:
    """Wait for a random moment: a time from the start, or from a number of shards, however slow the machine;
    the end of the process comes first sometimes."""
    if rng.random() < 0.2:
        time.sleep(rng.uniform(0, 3))
        return
    wanted = rng.randint(_shards(out), SINGLE_SHARDS)
    while process.poll() is None and (_shards(out) < wanted or not _is_planned(out)):
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.05))


def _is_planned(out: Path) -> bool:
    return (out / ".plan" / "arguments.json").exists()


def _shards(out: Path) -> int:
    return len(list((out / "shards").glob("[0-9]*.tar")))


def _state(out: Path) -> str:
    """What a kill left behind."""
    if (out / "manifest.json").exists():
        return "after the manifest"
    if not _is_planned(out):
        return "before the selection was stored"
    shards = _shards(out)
    if shards == SINGLE_SHARDS:
        return "with all shards"
    return "within the shards" if shards else "before the first shard"
