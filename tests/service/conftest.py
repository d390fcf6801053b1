"""A small real index and a client of the service over it."""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from curate.index.build import build_index
from curate.index.index import Index, open_index
from curate.index.options import BuildOptions
from service.app import create_app
from service.encoder import open_encoder
from service.settings import Settings

ENCODER = "timm:mobilenetv3_small_050@none"
MakeClient = Callable[..., TestClient]
ErrorOf = Callable[[Any, int], dict[str, Any]]


@pytest.fixture(scope="session")
def tiny() -> BuildOptions:
    """How to build an index in a moment: a small encoder of random weights."""
    return BuildOptions(encoder=ENCODER, image_size=32, runtime="eager", batch_size=4)


@pytest.fixture(scope="session")
def pool(
    tmp_path_factory: pytest.TempPathFactory,
    picture: Callable[..., np.ndarray],
    encode: Callable[..., bytes],
    write_tar: Callable[[Path, Mapping[str, bytes]], Path],
) -> Path:
    """Twenty loose pictures and a tar of ten with captions and metadata."""
    folder = tmp_path_factory.mktemp("service") / "pool"
    folder.mkdir()
    for number in range(20):
        data = encode(picture(80 + number, 60, seed=number), "png" if number % 5 == 0 else "jpeg")
        (folder / f"{number:02d}.{'png' if number % 5 == 0 else 'jpg'}").write_bytes(data)
    members: dict[str, bytes] = {}
    for number in range(10):
        members[f"{number:05d}.jpg"] = encode(picture(64, 64, seed=100 + number))
        members[f"{number:05d}.txt"] = f"<b>picture</b> {number}".encode()
        about = {
            "url": f"https://example.org/{number}.jpg",
            "caption": f"<b>picture</b> {number}",
            "licence": "CC0",
        }
        members[f"{number:05d}.json"] = json.dumps(about).encode()
    write_tar(folder / "00000.tar", members)
    return folder


@pytest.fixture(scope="session")
def index_path(pool: Path, tiny: BuildOptions) -> Path:
    """An index of the pool, made with a tiny encoder of random weights."""
    path = pool.parent / "index"
    build_index([pool], path, tiny)
    return path


@pytest.fixture(scope="session")
def index(index_path: Path) -> Index:
    """The index, open."""
    return open_index(index_path)


@pytest.fixture(scope="session")
def make_client(index: Index) -> Iterator[MakeClient]:
    """`make_client(**limits)`: a client of a service with these limits."""
    encoder = open_encoder(index)

    def make(**limits: Any) -> TestClient:
        return TestClient(create_app(index, Settings(**limits), encoder), raise_server_exceptions=False)

    yield make


@pytest.fixture(scope="session")
def client(make_client: MakeClient) -> TestClient:
    """A client of a service with the default limits."""
    return make_client()


@pytest.fixture(scope="session")
def query_images(picture: Callable[..., np.ndarray], encode: Callable[..., bytes]) -> list[bytes]:
    """Four images that are not in the pool."""
    return [encode(picture(70, 70, seed=1000 + number)) for number in range(4)]


@pytest.fixture(scope="session")
def as_query() -> Callable[..., dict[str, str]]:
    """`as_query(image bytes, label=None)`: a query of a JSON request."""

    def make(data: bytes, label: str | None = None) -> dict[str, str]:
        query = {"image": base64.b64encode(data).decode()}
        return query if label is None else {**query, "label": label}

    return make


@pytest.fixture(scope="session")
def error_of() -> ErrorOf:
    """`error_of(response, status)`: the error of a response that must have this status and the one shape of
    errors."""

    def check(response: Any, status: int) -> dict[str, Any]:
        assert response.status_code == status, response.text
        body = response.json()
        assert set(body) == {"error"}
        assert set(body["error"]) == {"code", "message", "hint"}
        assert body["error"]["code"] and body["error"]["message"]
        return body["error"]

    return check
