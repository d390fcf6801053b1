"""GET /images/{item_id} and /healthz."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from curate.index.build import build_index
from curate.index.index import Index, open_index
from curate.index.options import BuildOptions
from service.app import create_app
from service.settings import Settings

ErrorOf = Callable[[Any, int], dict[str, Any]]


def first_id(index: Index) -> str:
    return index.items(np.array([0], np.int64))[0].item_id.hex()


def test_thumbnail_with_headers(client: TestClient, index: Index) -> None:
    identity = first_id(index)
    response = client.get(f"/images/{identity}")
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/jpeg"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "no-cache" in response.headers["cache-control"], "it may be forgotten at any time"
    item = index.item(bytes.fromhex(identity))
    assert Image.open(io.BytesIO(response.content)).size == (item.width, item.height)
    again = client.get(f"/images/{identity}", headers={"If-None-Match": response.headers["etag"]})
    assert again.status_code == 304 and not again.content


def test_size_is_the_longer_side_and_bounded(
    make_client: Callable[..., TestClient], index: Index, error_of: ErrorOf
) -> None:
    client = make_client(max_thumbnail=64)
    identity = first_id(index)
    image = Image.open(io.BytesIO(client.get(f"/images/{identity}?size=32").content))
    assert max(image.size) == 32
    for size in ("0", "15", "65", "x", "-1", "1e3"):
        error_of(client.get(f"/images/{identity}?size={size}"), 422)


def test_unknown_and_malformed_ids(client: TestClient, error_of: ErrorOf) -> None:
    error = error_of(client.get("/images/" + "0" * 32), 404)
    assert error["code"] == "unknown_item"
    for identity in ("x", "0" * 31, "0" * 33, "A" * 32):
        error_of(client.get(f"/images/{identity}"), 422)
    error_of(client.get("/images/..%2f..%2fetc%2fpasswd"), 404)


def test_every_retrieved_image_has_a_thumbnail(client: TestClient, index: Index) -> None:
    query = {"item_id": first_id(index)}
    results = client.post("/retrieve", json={"queries": [query], "total": 29}).json()["results"]
    assert len(results) == 29
    for one in results:
        assert client.get(one["image_url"]).status_code == 200


def test_a_pool_that_is_gone_is_told_without_paths(
    tmp_path: Path, pool: Path, capfd: pytest.CaptureFixture[str], error_of: ErrorOf, tiny: BuildOptions
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "a.jpg").write_bytes((pool / "01.jpg").read_bytes())
    build_index([own], tmp_path / "index", tiny)
    (own / "a.jpg").unlink()
    index = open_index(tmp_path / "index")
    with TestClient(create_app(index, Settings()), raise_server_exceptions=False) as client:
        error = error_of(client.get(f"/images/{first_id(index)}"), 503)
    assert error["code"] == "image_unavailable"
    assert str(tmp_path) not in str(error)
    assert str(own) in capfd.readouterr().err


def test_healthz(client: TestClient, index: Index) -> None:
    health = client.get("/healthz").json()
    assert health["status"] == "ok"
    assert health["items"] == health["distinct"] == 30
    assert health["dimension"] == index.dimension
    assert health["encoder"] == index.encoder_spec
    assert health["text_queries"] is False
