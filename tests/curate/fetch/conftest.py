"""A web site, and an index over URLs of it."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.index.build import build_index
from curate.index.index import open_index
from curate.index.options import BuildOptions
from tests.curate.fetch.web import Site, sites

Make = Callable[..., Any]


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[[], Site]]:
    """`serve()`: a new site on 127.0.0.1."""
    with sites() as make:
        yield make


@dataclass(frozen=True)
class UrlPool:
    """An index over URLs of `site`. By turns the metadata have a sha256, an md5, and no hash."""

    site: Site
    index: Path


@pytest.fixture(scope="module")
def url_pool(
    small_pool: Any, tmp_path_factory: pytest.TempPathFactory, write_ready: Make, serve: Make
) -> UrlPool:
    root, site = tmp_path_factory.mktemp("urls"), serve()
    opened = open_index(small_pool.index)
    for part in opened.parts:
        positions = (np.int64(part.number) << 32) + np.arange(part.rows)
        images = [opened.read_bytes(item) for item in opened.items(positions)]
        paths = [f"/{part.number}-{row}.jpg" for row in range(part.rows)]
        site.files |= dict(zip(paths, images, strict=True))
        columns = {
            "url": [site.url(path) for path in paths],
            "caption": [f"picture {path}" for path in paths],
            "sha256": [
                hashlib.sha256(one).hexdigest() if row % 3 == 0 else None for row, one in enumerate(images)
            ],
            "MD5": [
                hashlib.md5(one).hexdigest().upper() if row % 3 == 1 else "" for row, one in enumerate(images)
            ],
        }
        write_ready(root / "pool", part.number, part.embeddings.astype(np.float32), columns)
    options = BuildOptions(
        encoder="timm:test_efficientnet@none", image_size=32, runtime="eager", batch_size=8, faiss=False
    )
    build_index([root / "pool"], root / "index", options)
    return UrlPool(site, root / "index")
