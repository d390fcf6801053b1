"""A small real index, built once: a tar and loose files, an encoder with random weights."""

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curate.index.build import build_index
from curate.index.options import BuildOptions

Make = Callable[..., Any]
TAR_IMAGES, LOOSE_IMAGES = 48, 24


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
    images["0.png"] = images["t/00000"]
    images["1.png"] = images["t/00001"]
    for number in range(LOOSE_IMAGES):
        (pool / "loose" / f"{number}.png").write_bytes(images[f"{number}.png"])
    options = BuildOptions(
        encoder="timm:test_efficientnet@none", image_size=32, runtime="eager", batch_size=8, faiss=False
    )
    build_index([pool], root / "index", options)
    return SmallPool(pool, root / "index", images)


@pytest.fixture
def query_dir(tmp_path: Path, tinted: Make, encode: Make) -> Path:
    """Two queries of each of two tints, none of which is in the pool."""
    for label, tint in (("red", 0), ("blue", 2)):
        (tmp_path / "queries" / label).mkdir(parents=True)
        for number in range(2):
            data = encode(tinted(tint, 900 + number), "png")
            (tmp_path / "queries" / label / f"{number}.png").write_bytes(data)
    return tmp_path / "queries"
