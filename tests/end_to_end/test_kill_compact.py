"""Forget, compact and crash together: what was forgotten never comes back, and the end is the same."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from curate.index.index import open_index
from tests.random_kills import until_done, work_seconds
from tests.trees import checksums
from transferset.copies import item_id

Make = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]
KILLS = 30
FORGOTTEN = ("005.jpg", "045.jpg", "085.jpg")

# The command in a process of its own, with small parts; it kills itself at a moment.
CURATE = """
import importlib, os, signal, sys
from curate.index.building import finish
from curate.pools import partition
partition.FOLDER_FILES = 40

def die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)

moment = sys.argv.pop(1)
if moment == "after the first new part":
    compact = importlib.import_module("curate.index.compact")
    copy = compact.copy_part
    compact.copy_part = lambda index, number, *rest: die() if number > 3 else copy(index, number, *rest)
elif moment == "before the old parts are removed":
    finish.shutil.rmtree = die
from curate.cli import main
main()
"""
BUILD = ["--encoder", "timm:test_efficientnet@none", "--image-size", "32", "--runtime", "eager"]
CHEAP = ["--batch-size", "8", "--threads", "1", "--workers", "2"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, picture: Make, encode: Make, run_python: Make) -> Path:
    """A pool of a hundred files and its index of three parts, an item of each of which is forgotten."""
    root = tmp_path_factory.mktemp("compacted")
    (root / "pool").mkdir()
    for number in range(100):
        (root / "pool" / f"{number:03d}.jpg").write_bytes(encode(picture(32, 32, seed=number)))
    run(
        run_python, "never", "build-index", "--pool", root / "pool", "--index", root / "index", *BUILD, *CHEAP
    )
    images = [text for name in FORGOTTEN for text in ("--image", str(root / "pool" / name))]
    run(run_python, "never", "forget", "--index", root / "index", *images, "--who", "me", "--why", "asked")
    return root


def run(run_python: Make, moment: str, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = run_python(["-c", CURATE, moment, *map(str, arguments)], timeout=300)
    assert done.returncode == code, done.stderr
    return done


def retrieved(run_python: Make, root: Path, index: Path, out: Path) -> set[str]:
    """Everything that retrieve gives out, for queries that look like what was forgotten."""
    (root / "queries").mkdir(exist_ok=True)
    shutil.copy(root / "pool/001.jpg", root / "queries")
    run(run_python, "never", "retrieve", "--index", index, "--query-dir", root / "queries", "--out", out,
        "--total", 100, "--no-near")  # fmt: skip
    names = subprocess.run(
        ["tar", "tf", *out.glob("shards/*.tar")], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in names.stdout.split()}


@pytest.fixture(scope="module")
def unbroken(built: Path, run_python: Make) -> dict[str, str]:
    """What a compact that nobody kills leaves."""
    shutil.copytree(built / "index", built / "unbroken")
    report = json.loads(run(run_python, "never", "compact", "--index", built / "unbroken", "--json").stdout)
    assert (report["forgotten"], report["gone"], report["images"]) == (3, 0, 97)
    return checksums(built / "unbroken")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("moment", ["after the first new part", "before the old parts are removed"])
def test_a_killed_compact_gives_nothing_back(
    moment: str, built: Path, unbroken: dict[str, str], run_python: Make
) -> None:
    index = built / moment.replace(" ", "-")
    gone = {item_id((built / "pool" / name).read_bytes()) for name in FORGOTTEN}
    shutil.copytree(built / "index", index)
    run(run_python, moment, "compact", "--index", index, code=-signal.SIGKILL)
    assert {path.name for path in (index / "parts").glob("[0-9]*")} > {"000000", "000001", "000002"}
    opened = open_index(index)
    assert opened.distinct == 97 and all(opened.find(one) is None for one in gone)

    given = retrieved(run_python, built, index, built / f"set-{index.name}")
    assert len(given) == 96 and not given & {one.hex() for one in gone}

    adding = built / f"adding-{index.name}"
    shutil.copytree(index, adding)
    done = run(run_python, "never", "build-index", "--pool", built / "pool", "--index", adding, "--json")
    assert json.loads(done.stdout)["new_images"] == 0
    rows = [path.read_bytes() for path in adding.rglob("parts/*/items.arrow")]
    assert any(one in part for one in gone for part in rows) == (moment == "after the first new part")
    assert open_index(adding).distinct == 97

    for path in (index, adding):
        run(run_python, "never", "compact", "--index", path)
        assert checksums(path) == unbroken


@pytest.mark.soak
def test_a_compact_killed_again_and_again(built: Path, unbroken: dict[str, str]) -> None:
    def start(index: Path) -> subprocess.Popen[str]:
        arguments = [sys.executable, "-c", CURATE, "never", "compact", "--index", str(index)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        quiet = subprocess.DEVNULL
        return subprocess.Popen(arguments, env=environment, stdout=quiet, stderr=subprocess.PIPE, text=True)

    rng, kills, trials = random.Random(0), 0, 0
    shutil.copytree(built / "index", built / "timed")
    seconds = work_seconds(start(built / "timed"), built / "timed")
    while kills < KILLS:
        index = built / f"soak-{trials}"
        shutil.copytree(built / "index", index)
        kills += until_done(partial(start, index), index, rng, seconds)
        assert checksums(index) == unbroken, f"trial {trials}, {kills} kills"
        trials += 1
    print(f"\n{trials} compactions, {kills} kills")
