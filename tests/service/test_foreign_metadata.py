"""POST /retrieve over an index whose metadata is of no use to JSON: half characters, endless nesting."""

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from curate.index.build import build_index
from curate.index.index import open_index
from curate.index.options import BuildOptions
from curate.pools import metadata
from service.app import create_app
from service.encoder import open_encoder
from service.settings import Settings


def test_strange_metadata_is_answered(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    picture: Any,
    encode: Any,
    write_tar: Any,
    tiny: BuildOptions,
    as_query: Any,
) -> None:
    monkeypatch.setattr(metadata, "parse_json", json.loads)  # as older indexes hold it
    members = {f"{number}.jpg": encode(picture(64, 64, seed=number)) for number in range(2)}
    members["0.json"] = b'{"t": "\\ud800", "score": 1e999}'
    members["1.json"] = b'{"a": ' + b"[" * 300 + b"]" * 300 + b"}"
    write_tar(tmp_path / "pool" / "a.tar", members)
    build_index([tmp_path / "pool"], tmp_path / "index", tiny)
    index = open_index(tmp_path / "index")
    client = TestClient(create_app(index, Settings(), open_encoder(index)), raise_server_exceptions=False)
    query = as_query(encode(picture(70, 70, seed=9)))
    answer = client.post("/retrieve", json={"queries": [query], "per_query": 2})
    assert answer.status_code == 200, answer.text
    found = {one["key"]: one["extra"] for one in answer.json()["results"]}
    assert found == {"0": {"t": "\\ud800", "score": None}, "1": None}
