"""The excluded images' views: a run that is killed while it embeds them leaves those that are done, and runs
at once don't harm each other."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate.index.stored_views import is_whole, stored_files

Make = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]
EXCLUDED = 12

# The command in a process of its own, which stores four images a file; it kills itself (SIGKILL) at a moment.
CURATE = """
import os, signal, sys
from curate.index import stored_views
from transferset import writes
stored_views.IMAGES_A_FILE = 4

def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

moment = sys.argv.pop(1)
if moment == "before the second file":
    name_of = stored_views._name_of
    def dying_name(data):
        stored_views._name_of = die
        return name_of(data)
    stored_views._name_of = dying_name
elif moment == "within the second file":
    sync, count = writes.sync, 0
    def dying_sync(path):
        global count
        count += ".safetensors" in path.name and path.parent.parent.name == "views"
        return die() if count == 2 else sync(path)
    writes.sync = dying_sync
from curate.cli import main
main()
"""


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory, picture: Make, encode: Make, run_python: Make) -> Path:
    """A pool with a calibrated index, queries, and a folder of excluded images."""
    root = tmp_path_factory.mktemp("task")
    for folder, count, first in (("pool", 60, 0), ("queries", 2, 900), ("test", EXCLUDED, 950)):
        (root / folder).mkdir()
        for seed in range(first, first + count):
            (root / folder / f"{seed}.png").write_bytes(encode(picture(32, 32, seed=seed), "png"))
    arguments = ["--pool", root / "pool", "--encoder", "timm:test_efficientnet@none", "--image-size", "32",
                 "--runtime", "eager"]  # fmt: skip
    for command in (["build-index", *arguments], ["calibrate"]):
        done = run_python(["-m", "curate.cli", *map(str, command), "--index", str(root / "index")])
        assert done.returncode == 0, done.stderr
    return root


def _command(task: Path, index: Path, out: Path) -> list[str]:
    given = ["--index", index, "--query-dir", task / "queries", "--exclude-dir", task / "test", "--out", out]
    return ["retrieve", *map(str, given), "--total", "10", "--workers", "2"]


def _shards(out: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((out / "shards").iterdir())]


@pytest.fixture(scope="module")
def unbroken(task: Path, run_python: Make) -> list[bytes]:
    """The shards of a run that nobody kills."""
    shutil.copytree(task / "index", task / "unbroken")
    done = run_python(["-m", "curate.cli", *_command(task, task / "unbroken", task / "out")])
    assert done.returncode == 0 and _counts(done.stderr) == (0, EXCLUDED), done.stderr
    return _shards(task / "out")


def _counts(errors: str) -> tuple[int, int]:
    """How many images came from the cache, and how many were embedded."""
    found = re.search(r"(\d+) from the index's cache, (\d+) embedded", errors)
    assert found is not None, errors
    return int(found[1]), int(found[2])


@pytest.mark.parametrize("moment", ["before the second file", "within the second file"])
def test_a_killed_run_goes_on_where_it_was(
    moment: str, task: Path, unbroken: list[bytes], tmp_path: Path, run_python: Make
) -> None:
    shutil.copytree(task / "index", tmp_path / "index")
    command = _command(task, tmp_path / "index", tmp_path / "out")
    killed = run_python(["-c", CURATE, moment, *command])
    assert killed.returncode == -9, killed.stderr
    assert len(stored_files(tmp_path / "index" / "views")) == 1
    resumed = run_python(["-c", CURATE, "never", *command])
    assert resumed.returncode == 0, resumed.stderr
    assert _counts(resumed.stderr) == (4, EXCLUDED - 4)
    assert _shards(tmp_path / "out") == unbroken


def test_runs_at_once(task: Path, tmp_path: Path, run_python: Make) -> None:
    shutil.copytree(task / "index", tmp_path / "index")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", CURATE, "never", *_command(task, tmp_path / "index", tmp_path / name)],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for name in ("a", "b")
    ]  # fmt: skip
    for run in runs:
        _, errors = run.communicate()
        assert run.returncode == 0 and sum(_counts(errors)) == EXCLUDED, errors
    files = stored_files(tmp_path / "index" / "views")
    assert files and all(is_whole(path) for path in files)
    third = run_python(["-c", CURATE, "never", *_command(task, tmp_path / "index", tmp_path / "c")])
    assert _counts(third.stderr) == (EXCLUDED, 0)
