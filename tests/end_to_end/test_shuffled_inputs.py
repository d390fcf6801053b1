"""Whatever the order of files and members, and however many workers: the same index and the same set."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curate.index.build import build_index
from curate.index.index import open_index
from curate.index.options import BuildOptions
from curate.retrieval import RetrieveOptions, retrieve
from curate.selection.select_options import SelectOptions

Make = Callable[..., Any]
IMAGES, TOTAL = 90, 48
TIE = 2e-3


@pytest.fixture(scope="module")
def images(picture: Make, encode: Make) -> list[bytes]:
    return [encode(picture(40, 40, seed=seed), quality=90) for seed in range(IMAGES)]


@pytest.fixture(scope="module")
def queries(tmp_path_factory: pytest.TempPathFactory, picture: Make, encode: Make) -> Path:
    folder = tmp_path_factory.mktemp("queries")
    for label in ("a", "b"):
        (folder / label).mkdir()
        for seed in range(3):
            data = encode(picture(40, 40, seed=1_000 + 10 * ord(label) + seed), "png")
            (folder / label / f"{seed}.png").write_bytes(data)
    return folder


def _lay_out(folder: Path, images: list[bytes], rng: np.random.Generator) -> Path:
    """The images as a pool: in two tars and loose, who stands where and under which name by chance."""
    order = rng.permutation(len(images)).tolist()
    cuts = sorted(rng.integers(1, len(images), 2).tolist())
    folder.mkdir()
    for name, members in (("x.tar", order[: cuts[0]]), ("y.tar", order[cuts[0] : cuts[1]])):
        with tarfile.open(folder / name, "w") as tar:
            for number in members:
                info = tarfile.TarInfo(f"{rng.integers(1 << 30):010d}.jpg")
                info.size = len(images[number])
                tar.addfile(info, io.BytesIO(images[number]))
    for number in order[cuts[1] :]:
        (folder / f"{rng.integers(1 << 30):010d}.jpg").write_bytes(images[number])
    return folder


def _build(pool: Path, index: Path, workers: int) -> dict[bytes, np.ndarray]:
    """The embeddings by item id."""
    options = BuildOptions(
        encoder="timm:test_efficientnet@none",
        image_size=32,
        runtime="eager",
        batch_size=8,
        workers=workers,
        faiss=False,
    )
    build_index([pool], index, options)
    opened = open_index(index)
    return {
        identity.tobytes(): row
        for part in opened.parts
        for identity, row in zip(opened.item_ids(part.number), opened.embeddings(part.number), strict=True)
    }


def _select(index: Path, queries: Path, out: Path, workers: int) -> dict[str, float]:
    """Similarity by item id."""
    retrieve(index, queries, out, RetrieveOptions(SelectOptions(total=TOTAL), workers=workers, near=False))
    rows = pq.read_table(out / "samples.parquet").to_pylist()
    return {row["item_id"]: row["similarity"] for row in rows}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, images: list[bytes], queries: Path) -> Any:
    root = tmp_path_factory.mktemp("plain")
    pool = _lay_out(root / "pool", images, np.random.default_rng(0))
    return pool, _build(pool, root / "index", 2), _select(root / "index", queries, root / "set", 2)


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(1, 1_000), workers=st.integers(1, 4))
def test_another_order_gives_the_same_items_embeddings_and_selection(
    tmp_path_factory: pytest.TempPathFactory,
    images: list[bytes],
    queries: Path,
    plain: Any,
    seed: int,
    workers: int,
) -> None:
    root = tmp_path_factory.mktemp("shuffled")
    pool = _lay_out(root / "pool", images, np.random.default_rng(seed))
    rows, chosen = _build(pool, root / "index", workers), plain[2]
    assert rows.keys() == plain[1].keys() and len(rows) == IMAGES
    for identity, row in rows.items():
        assert np.abs(row.astype(np.float32) - plain[1][identity].astype(np.float32)).max() <= 1e-3
    found = _select(root / "index", queries, root / "set", workers)
    only_here = sorted(found[identity] for identity in found.keys() - chosen.keys())
    only_there = sorted(chosen[identity] for identity in chosen.keys() - found.keys())
    assert len(found) == len(chosen) and len(only_here) <= max(1, 0.005 * TOTAL)
    assert all(abs(one - other) <= TIE for one, other in zip(only_here, only_there, strict=True)), "ties only"


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(workers=st.integers(1, 4))
def test_workers_change_no_byte(
    tmp_path_factory: pytest.TempPathFactory, queries: Path, plain: Any, workers: int
) -> None:
    root = tmp_path_factory.mktemp("workers")
    rows = _build(plain[0], root / "index", workers)
    assert all(np.array_equal(row, plain[1][identity]) for identity, row in rows.items())
    assert _select(root / "index", queries, root / "set", workers) == plain[2]
