"""Commands on a disk that fills up: exit 6, what was there before is intact, and with space the command goes
on."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate import cli
from curate.index.index import open_index
from tests.disks import leave, small_disk
from tests.trees import checksums
from transferset.entry_point import run_cli

Make = Callable[..., Any]
DISK_FULL = 6
TINY = ["--encoder", "timm:test_efficientnet@none", "--image-size", "32", "--runtime", "eager"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", megabytes=4) as directory:
        yield directory


@pytest.fixture
def build(capsys: pytest.CaptureFixture[str]) -> Callable[[Path, Path], tuple[int, str]]:
    """`build(pool, index)`: exit code and stderr of build-index."""

    def run(pool: Path, index: Path) -> tuple[int, str]:
        with pytest.raises(SystemExit) as caught:
            run_cli(
                cli.app, ["build-index", "--pool", str(pool), "--index", str(index), "--threads", "1", *TINY]
            )
        return int(caught.value.code or 0), capsys.readouterr().err

    return run


@pytest.fixture
def add_images(tmp_path: Path, picture: Make, encode: Make) -> Callable[[int, int], Path]:
    """`add_images(start, stop)`: write these images into the pool; returns it."""

    def add(start: int, stop: int) -> Path:
        (tmp_path / "pool").mkdir(exist_ok=True)
        for number in range(start, stop):
            (tmp_path / f"pool/{number:03d}.jpg").write_bytes(encode(picture(32, 32, seed=number)))
        return tmp_path / "pool"

    return add


def assert_full(ended: tuple[int, str], index: Path) -> None:
    code, told = ended
    assert code == DISK_FULL, told
    assert "No space left on device" in told
    assert not list(index.rglob(".tmp-*"))


def test_build_index_from_nothing(tmp_path: Path, disk: Path, add_images: Make, build: Make) -> None:
    pool = add_images(0, 100)
    index = disk / "index"
    leave(disk, 40_000)
    assert_full(build(pool, index), index)
    (disk / "filler").unlink()
    assert build(pool, index)[0] == 0
    assert build(pool, tmp_path / "elsewhere")[0] == 0
    here, elsewhere = checksums(index), checksums(tmp_path / "elsewhere")
    del here["plan.json"], elsewhere["plan.json"]  # holds the pool's path relative to the index
    assert here == elsewhere


def test_build_index_adding(disk: Path, add_images: Make, build: Make) -> None:
    index = disk / "index"
    assert build(add_images(0, 100), index)[0] == 0
    before = checksums(index)
    queries = np.asarray(open_index(index).embeddings(0)[:5], np.float32)
    found = open_index(index).search(queries, 10)
    pool = add_images(100, 150)
    reached = set()
    for free in range(20_000, 200_000, 20_000):
        leave(disk, free)
        ended = build(pool, index)
        if ended[0] == 0:
            break
        assert_full(ended, index)
        after = checksums(index)
        assert {name: after.get(name) for name in before} == before
        again = open_index(index).search(queries, 10)
        np.testing.assert_array_equal(again[0], found[0])
        np.testing.assert_array_equal(again[1], found[1])
        reached.add("caches" if (index / "parts/000001").exists() else "part")
    assert reached == {"part", "caches"}
    assert open_index(index).rows == 150
