"""Several processes build one index: each part is written once, and the bytes are those of one process."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curate.index.build import build_index
from curate.index.building.work import is_done, part_lock, read_work
from curate.index.layout import WORK
from curate.index.options import BuildOptions
from curate.pools import partition
from tests.trees import checksums
from transferset.errors import BusyError, UsageError
from transferset.lock import DirectoryLock

Make = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[3]
PARTS = 8
OPTIONS = BuildOptions(
    encoder="timm:test_efficientnet@none", image_size=32, runtime="eager", batch_size=8, workers=2, threads=1
)

# The command with small parts; no image can be read before a certain file is there.
GATED = """
import sys, time
from pathlib import Path
from curate.index.building import part_work
from curate.pools import partition
partition.FOLDER_FILES = 12
gate = Path(sys.argv.pop(1))
read = part_work.PartReader.read
def later(self, item):
    while not gate.exists():
        time.sleep(0.02)
    return read(self, item)
part_work.PartReader.read = later
from curate.cli import main
main()
"""


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory, picture: Make, encode: Make) -> Path:
    folder = tmp_path_factory.mktemp("shared") / "pool"
    folder.mkdir()
    for number in range(12 * PARTS):
        (folder / f"{number:03d}.jpg").write_bytes(encode(picture(32, 32, seed=number)))
    return folder


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition, "FOLDER_FILES", 12)


@pytest.fixture(scope="module")
def single(pool: Path) -> dict[str, str]:
    """What one process writes."""
    old, partition.FOLDER_FILES = partition.FOLDER_FILES, 12
    try:
        build_index([pool], pool.parent / "single", OPTIONS)
    finally:
        partition.FOLDER_FILES = old
    return without_plan(pool.parent / "single")


@pytest.fixture
def start(pool: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`start()`: the command for `tmp_path/index` in a process of its own. It waits for `tmp_path/gate`."""
    started = []

    def run(*more: str) -> subprocess.Popen[str]:
        arguments = [sys.executable, "-c", GATED, str(tmp_path / "gate"), "build-index", "--pool", str(pool)]
        arguments += ["--index", str(tmp_path / "index"), "--encoder", str(OPTIONS.encoder)]
        arguments += ["--image-size", "32", "--runtime", "eager", "--batch-size", "8", "--threads", "1"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            [*arguments, "--workers", "2", *more],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def without_plan(index: Path) -> dict[str, str]:
    """Checksums of all files but plan.json, which says where the pool is."""
    return {name: checksum for name, checksum in checksums(index).items() if name != "plan.json"}


def wait_for(happens: Callable[[], bool], seconds: float = 100) -> None:
    deadline = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.02)


def locked_parts(index: Path) -> list[str]:
    return sorted(path.name for path in index.glob(".lock-part-*"))


def start_two(start: Make, index: Path) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
    """Two commands, both of which have taken parts."""
    first = start()
    wait_for(lambda: bool(locked_parts(index)))
    time.sleep(0.5)
    taken = len(locked_parts(index))
    assert taken < PARTS
    second = start()
    wait_for(lambda: len(locked_parts(index)) > taken)
    return first, second


@pytest.mark.slow
def test_two_commands_at_once_share_the_parts(start: Make, single: dict[str, str], tmp_path: Path) -> None:
    both = start_two(start, tmp_path / "index")
    (tmp_path / "gate").touch()
    outputs = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert without_plan(tmp_path / "index") == single
    counts = [int(re.search(r"new +│ (\d+) in", out)[1]) for out, _ in outputs]  # type: ignore[index]
    assert sum(counts) == 12 * PARTS, "no image was embedded twice"
    assert min(counts) > 0, "both did some"


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_dead_ones_parts_are_taken_over(
    victim: int, start: Make, single: dict[str, str], tmp_path: Path
) -> None:
    both = start_two(start, tmp_path / "index")
    both[victim].kill()
    (tmp_path / "gate").touch()
    _, errors = both[1 - victim].communicate(timeout=200)
    assert both[1 - victim].returncode == 0, errors
    assert without_plan(tmp_path / "index") == single


def test_several_devices_are_several_processes(pool: Path, single: dict[str, str], tmp_path: Path) -> None:
    report = build_index([pool], tmp_path / "index", replace(OPTIONS, device="cpu,cpu"))
    assert without_plan(tmp_path / "index") == single
    assert (report.images, report.new_images, report.new_parts) == (12 * PARTS, 12 * PARTS, PARTS)


@pytest.mark.slow
def test_workers_do_their_share_and_die_with_their_starter(
    start: Make, single: dict[str, str], pool: Path, tmp_path: Path
) -> None:
    index = tmp_path / "index"
    starter = start("--device", "cpu,cpu")
    children = Path(f"/proc/{starter.pid}/task/{starter.pid}/children")
    wait_for(lambda: children.read_text().split() != [])
    child = int(children.read_text().split()[0])
    wait_for(lambda: sum(is_done(index, number) for number in range(PARTS)) >= PARTS // 2)
    starter.kill()
    starter.wait()
    wait_for(lambda: not Path(f"/proc/{child}").exists())
    build_index([pool], index, replace(OPTIONS, device="cpu,cpu"))
    assert without_plan(index) == single


def test_numbers_stay_although_parts_are_done_out_of_order(
    pool: Path, single: dict[str, str], tmp_path: Path
) -> None:
    """A build of which only the fourth part got done: what a killed process among several may leave."""
    import shutil

    index = tmp_path / "index"
    shutil.copytree(pool.parent / "single", index, dirs_exist_ok=True)
    (index / "manifest.json").unlink()
    from curate.index.building.settle import Run, begin_build

    for number in range(PARTS):
        shutil.rmtree(index / f"parts/{number:06d}")
    begin_build(Run(index, [pool], OPTIONS), alone=True)
    assert [one.number for one in read_work(index)] == list(range(PARTS))
    shutil.copytree(pool.parent / "single/parts/000003", index / "parts/000003")
    build_index([pool], index, OPTIONS)
    assert without_plan(index) == single
    assert not (index / WORK).exists()


def test_work_of_another_pool_that_was_given_up_is_not_done(
    pool: Path, picture: Make, encode: Make, tmp_path: Path
) -> None:
    from curate.index.building.settle import Run, begin_build

    other = tmp_path / "other"
    other.mkdir()
    (other / "a.jpg").write_bytes(encode(picture(seed=500)))
    index = tmp_path / "index"
    index.mkdir()
    begin_build(Run(index, [pool], OPTIONS), alone=True)
    report = build_index([other], index, OPTIONS)
    assert (report.images, report.parts) == (1, 1)
    assert is_done(index, 0)


def test_a_part_that_a_live_process_writes_is_left_to_it(pool: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    with part_lock(index, 3), pytest.raises(BusyError), part_lock(index, 3):
        pass


def test_nothing_else_is_done_to_an_index_that_is_being_built(pool: Path, tmp_path: Path) -> None:
    with (
        DirectoryLock(tmp_path / "index", shared=True),
        pytest.raises(BusyError, match="is being written"),
        DirectoryLock(tmp_path / "index"),
    ):
        pass


def test_devices_that_are_not_there_are_refused_before_anything_is_written(
    pool: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="cuda:77"):
        build_index([pool], tmp_path / "index", replace(OPTIONS, device="cpu,cuda:77"))
    assert not (tmp_path / "index").exists()
