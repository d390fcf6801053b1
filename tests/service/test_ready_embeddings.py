"""The service over an index of ready embeddings: it answers with web addresses and has no thumbnails."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from curate.index.build import build_index
from curate.index.index import Index, open_index
from curate.index.options import BuildOptions
from service.app import create_app
from service.encoder import open_encoder
from service.settings import Settings

URLS = [f"https://example.org/{number}.jpg" for number in range(7)] + ["javascript:alert(1)"]


@pytest.fixture(scope="module")
def ready(index: Index, tiny: BuildOptions, tmp_path_factory: pytest.TempPathFactory) -> Index:
    """The first embeddings of the small index, with URLs."""
    folder = tmp_path_factory.mktemp("ready")
    for name in ("img_emb", "metadata"):
        (folder / "pool" / name).mkdir(parents=True)
    np.save(folder / "pool/img_emb/img_emb_0.npy", index.embeddings(0)[: len(URLS)])
    table = pa.table({"url": URLS, "caption": ["<i>one</i>"] * len(URLS), "NSFW": ["UNLIKELY"] * len(URLS)})
    pq.write_table(table, folder / "pool/metadata/metadata_0.parquet")
    build_index([folder / "pool"], folder / "index", tiny)
    return open_index(Path(folder / "index"))


@pytest.fixture(scope="module")
def web(ready: Index) -> TestClient:
    """A client of a service over it."""
    return TestClient(create_app(ready, Settings(), open_encoder(ready)), raise_server_exceptions=False)


def test_results_have_the_addresses_of_the_images(
    web: TestClient, query_images: list[bytes], as_query: Callable[..., dict[str, str]]
) -> None:
    queries = [as_query(data, "a") for data in query_images]
    response = web.post("/retrieve", json={"queries": queries, "total": 8})
    assert response.status_code == 200, response.text
    results = response.json()["results"]
    assert sorted(result["url"] for result in results) == URLS
    for result in results:
        shown = result["url"] if result["url"].startswith("https://") else None
        assert result["image_url"] == shown
        assert result["width"] is None and result["caption"] == "<i>one</i>"
        assert result["extra"] == {"NSFW": "UNLIKELY"}


def test_an_item_can_be_a_query_and_has_no_thumbnail(
    web: TestClient, ready: Index, error_of: Callable[[Any, int], dict[str, Any]]
) -> None:
    identity = ready.item(0).item_id.hex()
    response = web.post("/retrieve", json={"queries": [{"item_id": identity}], "total": 3})
    assert response.status_code == 200, response.text
    assert identity not in [result["item_id"] for result in response.json()["results"]]
    error = error_of(web.get(f"/images/{identity}"), 404)
    assert error["code"] == "no_image" and "the pool holds no bytes" in error["message"]
    assert error_of(web.get(f"/images/{'0' * 32}"), 404)["code"] == "unknown_item"
