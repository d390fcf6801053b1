"""`curate suggest` killed at chosen moments: the same command goes on, with the same files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.runs import succeeded
from tests.trees import tree

Make = Callable[..., Any]
COUNT, KILLED_AT = 8, 4

# The command in a process of its own that kills itself (SIGKILL, so that nothing is cleaned up) at a moment.
KILLED = f"""
import os, signal, sys
from curate.suggestion import suggested, writing
from transferset import writes

def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

moment = sys.argv.pop(1)
if moment == "before the choice is stored":
    store = suggested.write_json
    suggested.write_json = lambda path, what: die() if path.name == "arguments.json" else store(path, what)
elif moment == "within an image":
    sync, count = writes.sync, 0
    def dying_sync(path):
        global count
        count += path.parent.name == "images"
        return die() if count == {KILLED_AT} else sync(path)
    writes.sync = dying_sync
elif moment == "before the manifest":
    writing.write_json = die
from curate.cli import main
main()
"""


@pytest.fixture(scope="module")
def task(make_task: Make) -> list[str]:
    """The command line without --out."""
    root = make_task(40)
    return [
        "suggest", "--index", str(root / "index"), "--query-dir", str(root / "queries"),
        "--count", str(COUNT), "--workers", "1", "--no-near",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("moment", "searched", "images"),
    [
        ("before the choice is stored", True, 0),
        ("within an image", False, KILLED_AT - 1),
        ("before the manifest", False, COUNT),
    ],
)
def test_a_killed_run_goes_on(
    moment: str,
    searched: bool,
    images: int,
    task: list[str],
    unbroken: dict[str, bytes],
    tmp_path: Path,
    run_python: Make,
) -> None:
    out = tmp_path / "out"
    killed = run_python(["-c", KILLED, moment, *task, "--out", str(out)])
    assert killed.returncode == -9, killed.stderr
    assert not (out / "manifest.json").exists()
    whole = {path: path.stat().st_mtime_ns for path in out.glob("images/[0-9a-f]*")}
    assert len(whole) == images

    resumed = succeeded(run_python(["-m", "curate.cli", *task, "--out", str(out)]))
    assert ("searching" in resumed.stderr) == searched, "what was chosen is not chosen again"
    assert tree(out) == unbroken
    assert {path: path.stat().st_mtime_ns for path in whole} == whole, "finished images are kept"
