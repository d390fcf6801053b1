"""A small real index, built once: a tar and loose files, an encoder with random weights."""

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curate.index.build import build_index
from curate.index.index import open_index
from curate.index.options import BuildOptions

Make = Callable[..., Any]
TAR_IMAGES, LOOSE_IMAGES = 48, 24
OPTIONS = BuildOptions(
    encoder="timm:test_efficientnet@none", image_size=32, runtime="eager", batch_size=8, faiss=False
)


@pytest.fixture
def curate(run_command: Make) -> Callable[..., tuple[int, str, str]]:
    """`curate(*arguments)`: exit code, stdout and stderr."""
    from curate import cli

    return partial(run_command, cli.app)


@dataclass(frozen=True)
class SmallPool:
    """`images` are the encoded images of the pool by name: `t/<key>` in the tar, file names of the loose
    ones."""

    pool: Path
    index: Path
    images: dict[str, bytes]


@pytest.fixture(scope="session")
def tinted() -> Callable[..., np.ndarray]:
    """`tinted(tint, seed, side=48)`: a picture of one of three tints, which random weights tell apart,
    with structure of all sizes as photographs have."""

    def make(tint: int, seed: int, side: int = 48) -> np.ndarray:
        rng = np.random.default_rng(1000 * tint + seed)
        pixels = np.full((side, side, 3), 40.0)
        pixels[..., tint] += 150
        for cells in (4, 8, 16, 32):
            coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
            pixels += np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)) / 255 * 40 - 20
        return pixels.clip(0, 255).astype(np.uint8)

    return make


@pytest.fixture(scope="session")
def small_pool(tmp_path_factory: pytest.TempPathFactory, tinted: Make, encode: Make) -> SmallPool:
    """An index over 72 pictures of three tints; two files of the folder hold the same bytes as members of
    the tar."""
    root = tmp_path_factory.mktemp("small")
    pool = root / "pool"
    (pool / "loose").mkdir(parents=True)
    images: dict[str, bytes] = {}
    with tarfile.open(pool / "t.tar", "w") as tar:
        for number in range(TAR_IMAGES):
            key = f"{number:05d}"
            images[f"t/{key}"] = encode(tinted(number % 3, number), quality=92)
            about = {
                "caption": f"<b>tint</b> {number}",
                "url": f"https://example.org/{key}?a=1&b=2",
                "license": "CC0",
            }
            for name, data in (
                (f"{key}.jpg", images[f"t/{key}"]),
                (f"{key}.json", json.dumps(about).encode()),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    for number in range(LOOSE_IMAGES):
        images[f"{number}.png"] = encode(tinted(number % 3, 500 + number), "png")
    images["4.png"] = images["t/00004"]
    images["1.png"] = images["t/00001"]
    for number in range(LOOSE_IMAGES):
        (pool / "loose" / f"{number}.png").write_bytes(images[f"{number}.png"])
    build_index([pool], root / "index", OPTIONS)
    return SmallPool(pool, root / "index", images)


@pytest.fixture(scope="session")
def write_ready() -> Callable[..., Path]:
    """`write_ready(folder, number, rows (n, d), {column: values}, digits=1)`: a pair of files as
    clip-retrieval writes them; returns the folder."""

    def make(
        folder: Path, number: int, rows: np.ndarray, columns: dict[str, list[Any]], digits: int = 1
    ) -> Path:
        name = f"{number:0{digits}d}"
        for below in ("img_emb", "metadata"):
            (folder / below).mkdir(parents=True, exist_ok=True)
        np.save(folder / f"img_emb/img_emb_{name}.npy", rows)
        pq.write_table(pa.table(columns), folder / f"metadata/metadata_{name}.parquet")
        return folder

    return make


@pytest.fixture(scope="session")
def ready_pool(
    small_pool: SmallPool, tmp_path_factory: pytest.TempPathFactory, write_ready: Make
) -> SmallPool:
    """Embeddings of the small pool's images, scaled by 3, with a URL each and no image, and their index."""
    root = tmp_path_factory.mktemp("ready")
    opened = open_index(small_pool.index)
    numbers = 0
    for part in opened.parts:
        rows = 3 * part.embeddings.astype(np.float32)
        urls = [f"https://example.org/{numbers + row}.jpg?<b>" for row in range(part.rows)]
        columns = {
            "url": urls,
            "caption": [f"picture {row}" for row in range(part.rows)],
            "original_width": [640] * part.rows,
            "height": [0] * part.rows,
            "LICENSE": ["CC-BY"] * part.rows,
        }
        write_ready(root / "pool", part.number, rows, columns)
        numbers += part.rows
    build_index([root / "pool"], root / "index", OPTIONS)
    return SmallPool(root / "pool", root / "index", {})


@pytest.fixture
def query_dir(tmp_path: Path, tinted: Make, encode: Make) -> Path:
    """Two queries of each of two tints, none of which is in the pool."""
    for label, tint in (("red", 0), ("blue", 2)):
        (tmp_path / "queries" / label).mkdir(parents=True)
        for number in range(2):
            data = encode(tinted(tint, 900 + number), "png")
            (tmp_path / "queries" / label / f"{number}.png").write_bytes(data)
    return tmp_path / "queries"
