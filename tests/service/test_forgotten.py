"""What is forgotten or compacted while the service runs."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from curate.index.compact import CompactOptions, compact
from curate.index.forget import ForgetOptions, forget
from curate.index.index import open_index
from service.app import create_app
from service.settings import Settings

ErrorOf = Callable[[Any, int], dict[str, Any]]


@pytest.fixture
def own(index_path: Path, tmp_path: Path) -> Path:
    """An index that the test may change."""
    shutil.copytree(index_path, tmp_path / "index")
    return tmp_path / "index"


def test_a_running_service_forgets_at_once(own: Path, error_of: ErrorOf) -> None:
    index = open_index(own)
    gone, other = (item.item_id.hex() for item in index.items(np.array([0, 1])))
    with TestClient(create_app(index, Settings()), raise_server_exceptions=False) as client:

        def found() -> list[str]:
            answer = client.post("/retrieve", json={"queries": [{"item_id": other}], "per_query": 29})
            assert answer.status_code == 200, answer.text
            return [one["item_id"] for one in answer.json()["results"]]

        tag = client.get(f"/images/{gone}").headers["etag"]
        assert gone in found()
        forget(own, ForgetOptions(item_ids=[gone]))
        assert gone not in found() and len(found()) == 28
        assert (
            error_of(client.get(f"/images/{gone}", headers={"If-None-Match": tag}), 404)["code"]
            == "unknown_item"
        )
        query = {"queries": [{"item_id": gone}], "per_query": 1}
        assert error_of(client.post("/retrieve", json=query), 422)["code"] == "unknown_item"
        assert client.get("/healthz").json()["distinct"] == 29

        compact(own, CompactOptions(keep_gone=True))
        assert len(found()) == 28 and gone not in found()
        health = client.get("/healthz").json()
        assert (health["items"], health["distinct"]) == (29, 29)
        assert client.get(f"/images/{other}").status_code == 200
