"""`curate build-index` killed (SIGKILL, nothing is cleaned up), then run again: the same bytes as without the
kill."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.random_kills import until_done, work_seconds
from tests.trees import checksums

Make = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]
KILLS = 30

# The command in a process of its own, with small parts; it kills itself at a moment.
BUILD = """
import os, signal, sys
from curate.index import manifest
from curate.index.building import part_work
from curate.pools import partition
partition.FOLDER_FILES = 40

def die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)

def stop(*arguments):
    os.kill(os.getpid(), signal.SIGTERM)

moment = sys.argv.pop(1)
if moment in ("within the second part", "told to end"):
    encode, count = part_work.encode_parts, 0
    def dying(outcomes):
        global count
        for outcome in outcomes:
            count += 1
            if count == 65:
                die() if moment == "within the second part" else stop()
            yield outcome
    def dying_parts(*arguments):
        for part, outcomes in encode(*arguments):
            yield part, dying(outcomes)
    part_work.encode_parts = dying_parts
elif moment == "between parts.parquet and the manifest":
    write = manifest.atomic_file
    class Dying:
        def __init__(self, path):
            self.path, self.file = path, write(path)
        def __enter__(self):
            return self.file.__enter__()
        def __exit__(self, *error):
            return die() if self.path.name == "manifest.json" else self.file.__exit__(*error)
    manifest.atomic_file = Dying
from curate.cli import main
main()
"""


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory, picture: Make, encode: Make) -> Path:
    """A hundred images, one of them damaged: three parts of up to 40."""
    folder = tmp_path_factory.mktemp("killed") / "pool"
    folder.mkdir()
    for number in range(100):
        (folder / f"{number:03d}.jpg").write_bytes(encode(picture(32, 32, seed=number)))
    (folder / "050.jpg").write_bytes(b"")
    return folder


def command(moment: str, pool: Path, index: Path) -> list[str]:
    options = ["--encoder", "timm:test_efficientnet@none", "--image-size", "32", "--runtime", "eager"]
    cheap = ["--batch-size", "8", "--threads", "1", "--workers", "2"]
    return ["-c", BUILD, moment, "build-index", "--pool", str(pool), "--index", str(index), *options, *cheap]


@pytest.fixture(scope="module")
def unbroken(pool: Path, run_python: Make) -> dict[str, str]:
    """What a run that nobody kills writes."""
    done = run_python(command("never", pool, pool.parent / "unbroken"), timeout=300)
    assert done.returncode == 0, done.stderr
    return checksums(pool.parent / "unbroken")


@pytest.mark.parametrize(
    ("moment", "parts"), [("within the second part", 1), ("between parts.parquet and the manifest", 3)]
)
def test_a_killed_build_goes_on(
    moment: str, parts: int, pool: Path, unbroken: dict[str, str], run_python: Make
) -> None:
    index = pool.parent / moment.replace(" ", "-")
    killed = run_python(command(moment, pool, index), timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (index / "manifest.json").exists()
    written = {path: path.stat().st_mtime_ns for path in index.glob("parts/[0-9]*/done.json")}
    assert len(written) == parts
    assert list(index.rglob(".tmp-*"))

    resumed = run_python(command("never", pool, index), timeout=300)
    assert resumed.returncode == 0, resumed.stderr
    assert checksums(index) == unbroken
    assert {path: path.stat().st_mtime_ns for path in written} == written, "what was done is not done again"


def test_a_build_that_is_told_to_end_tidies_up(pool: Path, run_python: Make) -> None:
    index = pool.parent / "told"
    stopped = run_python(command("told to end", pool, index), timeout=300)
    assert stopped.returncode == 75, stopped.stderr
    assert "re-run the same command" in stopped.stderr
    assert [path.name for path in (index / "parts").iterdir()] == ["000000"]
    assert not list(index.rglob(".tmp-*"))
    assert not (index / ".lock").exists()


@pytest.mark.soak
def test_a_build_killed_again_and_again(pool: Path, unbroken: dict[str, str]) -> None:
    def start(index: Path) -> subprocess.Popen[str]:
        arguments = [sys.executable, *command("never", pool, index)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        quiet = subprocess.DEVNULL
        return subprocess.Popen(arguments, env=environment, stdout=quiet, stderr=subprocess.PIPE, text=True)

    rng, kills, trials = random.Random(0), 0, 0
    seconds = work_seconds(start(pool.parent / "timed"), pool.parent / "timed")
    while kills < KILLS:
        index = pool.parent / f"soak-{trials}"
        kills += until_done(partial(start, index), index, rng, seconds)
        assert checksums(index) == unbroken, f"trial {trials}, {kills} kills"
        trials += 1
    print(f"\n{trials} builds, {kills} kills")
