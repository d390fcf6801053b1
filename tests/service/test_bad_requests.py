"""What the client did wrong is a 4xx that says so, in one shape."""

import asyncio
import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from starlette.types import Message

from curate.index.build import build_index
from curate.index.index import Index, open_index
from curate.index.options import BuildOptions
from service.app import create_app
from service.settings import Settings

ErrorOf = Callable[[Any, int], dict[str, Any]]
AsQuery = Callable[..., dict[str, str]]

UNIT = [1.0, 0.0]


def post(client: TestClient, **body: Any) -> Any:
    return client.post("/retrieve", json=body)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/a.jpg",
        "https://example.org/a.jpg",
        "file:///etc/passwd",
        "//example.org/a.jpg",
        "www.example.org/a.jpg",
        "s3://bucket/a.jpg",
        "data:image/svg+xml,<svg/>",
    ],
)
def test_a_url_is_never_fetched(client: TestClient, url: str, error_of: ErrorOf) -> None:
    error = error_of(post(client, queries=[{"image": url}], total=1), 422)
    assert error["code"] == "url_not_fetched"
    assert "base64" in error["hint"]


def test_broken_images_are_named(
    client: TestClient, query_images: list[bytes], error_of: ErrorOf, as_query: AsQuery
) -> None:
    for data in (b"", b"not an image", query_images[0][: len(query_images[0]) // 2]):
        error = error_of(post(client, queries=[as_query(query_images[1]), as_query(data)], total=1), 422)
        assert error["code"] == "unreadable_image"
        assert "queries.1" in error["message"]
        upload = client.post("/retrieve", files=[("files", ("a.jpg", data))], data={"total": "1"})
        assert error_of(upload, 422)["code"] == "unreadable_image"


def test_text_that_is_not_base64(client: TestClient, error_of: ErrorOf) -> None:
    assert error_of(post(client, queries=[{"image": "?!"}], total=1), 422)["code"] == "invalid_base64"


def test_odd_but_readable_images_are_fine(client: TestClient, as_query: AsQuery) -> None:
    for mode, kind in (("CMYK", "JPEG"), ("P", "PNG"), ("RGBA", "PNG"), ("I;16", "PNG"), ("L", "WEBP")):
        buffer = io.BytesIO()
        grey = Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64))
        image = grey if mode == "I;16" else Image.new("RGB", (64, 64), "red").convert(mode)
        image.save(buffer, kind)
        assert post(client, queries=[as_query(buffer.getvalue())], total=1).status_code == 200, mode


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"image": "aaaa", "item_id": "0" * 32},
        {"label": "cat"},
        {"url": "http://example.org"},
        {"item_id": "xyz"},
        {"embedding": []},
        {"embedding": [0, 0]},
        {"embedding": ["1"]},
        {"text": ""},
        {"text": 3},
        "text",
        None,
    ],
)
def test_malformed_queries(client: TestClient, query: Any, error_of: ErrorOf) -> None:
    error = error_of(post(client, queries=[query], total=1), 422)
    assert error["code"] == "invalid_request"
    assert "queries.0" in error["message"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"total": 1, "per_query": 1},
        {"total": 0},
        {"total": -1},
        {"total": 1.5},
        {"total": "1"},
        {"total": True},
        {"total": 1, "strategy": "worst"},
        {"total": 1, "min_similarity": 2},
        {"total": 1, "seed": -1},
        {"total": 1, "strategy": "random", "min_similarity": 0.5},
        {"total": 1, "colour": "red"},
    ],
)
def test_malformed_options(
    client: TestClient,
    query_images: list[bytes],
    options: dict[str, Any],
    error_of: ErrorOf,
    as_query: AsQuery,
) -> None:
    error = error_of(post(client, queries=[as_query(query_images[0])], **options), 422)
    assert error["code"] == "invalid_request"


def test_embeddings_must_fit(client: TestClient, index: Index, error_of: ErrorOf) -> None:
    error = error_of(post(client, queries=[{"embedding": [1.0] * (index.dimension - 1)}], total=1), 422)
    assert error["code"] == "wrong_dimension" and str(index.dimension) in error["message"]
    for text in ("NaN", "Infinity", "-Infinity", "1e999"):
        numbers = ",".join([text] + ["1"] * (index.dimension - 1))
        content = f'{{"queries": [{{"embedding": [{numbers}]}}], "total": 1}}'
        response = client.post("/retrieve", content=content, headers={"Content-Type": "application/json"})
        error_of(response, 422)
    huge = [1e308] * index.dimension
    small_numbers = [5e-324] * index.dimension
    same = [1.0] * index.dimension
    answers = [
        post(client, queries=[{"embedding": one}], total=3).json()["results"]
        for one in (huge, small_numbers, same)
    ]
    assert answers[0] == answers[1] == answers[2]


def test_unknown_item_and_text_without_a_text_tower(client: TestClient, error_of: ErrorOf) -> None:
    assert error_of(post(client, queries=[{"item_id": "0" * 32}], total=1), 422)["code"] == "unknown_item"
    error = error_of(post(client, queries=[{"text": "a cat"}], total=1), 422)
    assert error["code"] == "no_text_tower" and "open_clip" in error["hint"]


def test_bodies_that_are_no_json(client: TestClient, error_of: ErrorOf) -> None:
    for content in (b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 100_000):
        response = client.post("/retrieve", content=content, headers={"Content-Type": "application/json"})
        assert error_of(response, 422)["code"] == "invalid_request"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_other_types_of_body(client: TestClient, kind: str, error_of: ErrorOf) -> None:
    response = client.post("/retrieve", content=b"{}", headers={"Content-Type": kind})
    assert error_of(response, 415)["code"] == "unsupported_media_type"


def test_malformed_uploads(client: TestClient, query_images: list[bytes], error_of: ErrorOf) -> None:
    image = ("files", ("a.jpg", query_images[0]))
    for files, data in (
        ([image], {}),
        ([image], {"total": "x"}),
        ([image], {"total": ["1", "2"]}),
        ([image], {"total": "1", "colour": "red"}),
        ([image], {"total": "1", "labels": ["a", "b"]}),
        ([image], {"total": "1", "labels": ["a" * 201]}),
        ([("pictures", ("a.jpg", query_images[0]))], {"total": "1"}),
        ([("total", ("a.jpg", b"1"))], {}),
    ):
        response = client.post("/retrieve", files=files, data=data)
        assert error_of(response, 422)["code"] == "invalid_request", (data, response.text)
    response = client.post("/retrieve", content=b"nonsense", headers={"Content-Type": "multipart/form-data"})
    error_of(response, 400)
    response = client.post(
        "/retrieve", content=b"nonsense", headers={"Content-Type": "multipart/form-data; boundary=x"}
    )
    assert 400 <= response.status_code < 500
    error_of(response, response.status_code)


def test_unknown_routes_and_methods(client: TestClient, error_of: ErrorOf) -> None:
    assert error_of(client.get("/nothing"), 404)["code"] == "not_found"
    assert error_of(client.get("/retrieve"), 405)["code"] == "method_not_allowed"
    assert error_of(client.delete("/images/" + "0" * 32), 405)["code"] == "method_not_allowed"


def test_nothing_left_to_retrieve(
    client: TestClient, query_images: list[bytes], error_of: ErrorOf, as_query: AsQuery
) -> None:
    error = error_of(post(client, queries=[as_query(query_images[0])], total=1, min_similarity=1.0), 422)
    assert error["code"] == "not_retrievable"
    assert "--" not in error["message"] + error["hint"]
    error = error_of(post(client, queries=[as_query(query_images[0])], total=40, shortfall="fail"), 422)
    assert "--" not in error["message"] + error["hint"]


def test_limits_on_counts_and_pixels(
    make_client: Callable[..., TestClient],
    query_images: list[bytes],
    index: Index,
    error_of: ErrorOf,
    as_query: AsQuery,
) -> None:
    client = make_client(max_queries=2, max_results=5, max_pixels=5_000, max_total_pixels=9_000)
    two = [as_query(data) for data in query_images[:2]]
    three = [as_query(data) for data in query_images[:3]]
    assert error_of(post(client, queries=three, total=3), 413)["code"] == "too_many_queries"
    assert error_of(post(client, queries=two, per_query=3), 413)["code"] == "too_many_results"
    assert error_of(post(client, queries=two, total=6), 413)["code"] == "too_many_results"
    assert error_of(post(client, queries=two, total=2), 413)["code"] == "too_many_pixels"
    assert post(client, queries=two[:1], total=2).status_code == 200
    buffer = io.BytesIO()
    Image.new("L", (30_000, 30_000)).save(buffer, "PNG")
    error = error_of(post(client, queries=[as_query(buffer.getvalue())], total=1), 413)
    assert error["code"] == "too_many_pixels" and "900000000" in error["message"]
    files = [("files", ("a.jpg", data)) for data in query_images[:3]]
    response = client.post("/retrieve", files=files, data={"total": "3"})
    error_of(response, response.status_code)
    assert 400 <= response.status_code < 500
    numbers = {"queries": [{"embedding": [0] * (3 * index.dimension + 100)}], "total": 1}
    assert error_of(post(client, **numbers), 413)["code"] == "too_many_values"


def test_limit_on_the_body_announced_or_not(
    make_client: Callable[..., TestClient], query_images: list[bytes], error_of: ErrorOf, as_query: AsQuery
) -> None:
    client = make_client(max_body_bytes=20_000)
    headers = {"Content-Type": "application/json"}
    small = json.dumps({"queries": [as_query(query_images[0])], "total": 1}).encode()
    large = b" " * 20_001
    assert client.post("/retrieve", content=small, headers=headers).status_code == 200
    assert error_of(client.post("/retrieve", content=large, headers=headers), 413)["code"] == "body_too_large"
    chunked = client.post(
        "/retrieve", content=(large[n : n + 999] for n in range(0, len(large), 999)), headers=headers
    )
    assert error_of(chunked, 413)["code"] == "body_too_large"
    upload = client.post("/retrieve", files=[("files", ("a.jpg", large))], data={"total": "1"})
    assert error_of(upload, 413)["code"] == "body_too_large"


def test_image_value_is_not_taken_for_markup_or_path(client: TestClient, error_of: ErrorOf) -> None:
    text = base64.b64encode(b"<svg onload=alert(1)>").decode()
    error = error_of(post(client, queries=[{"image": text, "label": "<script>"}], total=1), 422)
    assert "<s" not in error["message"]


def test_an_answer_does_not_grow_with_what_was_wrong(client: TestClient, error_of: ErrorOf) -> None:
    long = json.dumps({"x" * 1_000_000: 1})
    error = error_of(
        client.post("/retrieve", content=long, headers={"Content-Type": "application/json"}), 422
    )
    assert len(error["message"]) < 2_000
    many = post(client, queries=[{"embedding": ["x"] * 5_000}], total=1)
    assert "5000 values" in error_of(many, 422)["message"]


def test_a_damaged_index_is_not_the_clients_fault(
    tmp_path: Path,
    pool: Path,
    tiny: BuildOptions,
    capfd: pytest.CaptureFixture[str],
    error_of: ErrorOf,
) -> None:
    build_index([pool / "00000.tar"], tmp_path / "index", tiny)
    index = open_index(tmp_path / "index")
    with TestClient(create_app(index, Settings()), raise_server_exceptions=False) as client:
        (tmp_path / "index/forgotten.parquet").write_bytes(b"damaged")
        error = error_of(post(client, queries=[{"embedding": [1.0] * index.dimension}], total=1), 500)
    assert str(tmp_path) not in str(error)
    assert "forgotten.parquet" in capfd.readouterr().err


def test_a_client_that_leaves_within_its_request_is_no_failure(client: TestClient) -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        pass

    headers = [(b"content-type", b"application/json"), (b"content-length", b"100")]
    scope = {"type": "http", "method": "POST", "path": "/retrieve", "query_string": b"", "headers": headers}
    asyncio.run(client.app(scope, receive, send))  # type: ignore[arg-type]  # raises what a server would log
