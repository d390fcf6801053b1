"""Samples of a pool."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate.pools import Roots, list_pools, sample
from curate.pools.sample import pool_size, sample_images
from transferset.errors import DataError

Make = Callable[..., Any]


@pytest.fixture
def pool(tmp_path: Path, picture: Make, encode: Make, write_tar: Make) -> Path:
    for tar in range(6):
        members = {f"{n:03d}.jpg": encode(picture(16, 16, seed=100 * tar + n)) for n in range(30)}
        write_tar(tmp_path / f"pool/{tar}.tar", members)
    for number in range(10):
        (tmp_path / f"pool/{number}.png").write_bytes(encode(picture(16, 16, seed=number), "png"))
    return tmp_path / "pool"


def test_a_sample_is_a_function_of_pool_and_seed(pool: Path) -> None:
    roots = Roots(pool.parent / "index")
    sources = list_pools([pool], roots).sources

    def draw(seed: int) -> list[bytes]:
        with sample_images(sources, roots, 50, seed) as found:
            return [one.read() for one in found]

    first = draw(1)
    assert len(first) == len(set(first)) == 50
    assert draw(1) == first
    assert draw(2) != first


def test_a_small_pool_is_taken_whole(pool: Path) -> None:
    roots = Roots(pool.parent / "index")
    with sample_images(list_pools([pool], roots).sources, roots, 1_000) as found:
        assert len(found) == 190


def test_what_cannot_be_opened_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool/a.tar").write_bytes(b"no tar")
    roots = Roots(tmp_path / "index")
    sources = list_pools([tmp_path / "pool"], roots).sources
    with pytest.raises(DataError, match="no image that can be opened"), sample_images(sources, roots, 5):
        pass


def test_few_tars_are_counted_and_many_estimated(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = Roots(pool.parent / "index")
    sources = list_pools([pool], roots).sources
    assert pool_size(sources, roots) == sample.PoolSize(190, True)
    monkeypatch.setattr(sample, "_COUNTED_TARS", 3)
    size = pool_size(sources, roots)
    assert not size.counted
    assert size.images == pytest.approx(190, rel=0.05)
