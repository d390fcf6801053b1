"""POST /retrieve: results, and that they are those of the command line's function."""

import base64
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from curate.index.build import build_index
from curate.index.index import Index, open_index
from curate.index.options import BuildOptions
from curate.retrieval import RetrieveOptions, retrieve
from curate.selection.select_options import SelectOptions
from service.app import create_app
from service.settings import Settings
from transferset.models.backbone import load_backbone

AsQuery = Callable[..., dict[str, str]]

LABELS = ["cat", "cat", "dog", "ant"]


def test_answers_with_item_score_query_metadata_and_thumbnail(
    client: TestClient, index: Index, query_images: list[bytes], as_query: AsQuery
) -> None:
    body = {
        "queries": [as_query(data, label) for data, label in zip(query_images, LABELS, strict=True)],
        "per_query": 4,
    }
    response = client.post("/retrieve", json=body)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert (answer["requested"], answer["returned"], answer["missing"]) == (16, 16, 0)
    assert len({one["item_id"] for one in answer["results"]}) == 16
    for one in answer["results"]:
        item = index.item(bytes.fromhex(one["item_id"]))
        assert one["key"] == item.key
        assert one["image_url"] == f"/images/{one['item_id']}"
        assert one["hinted_label"] == LABELS[one["query"]]
        assert -1 <= one["score"] <= 1 and one["rank"] >= 1
    captioned = [one for one in answer["results"] if one["caption"]]
    assert captioned and captioned[0]["caption"].startswith("<b>picture</b>")
    assert captioned[0]["url"].startswith("https://example.org/")
    assert captioned[0]["extra"]["licence"] == "CC0"
    assert [one["returned"] for one in answer["queries"]] == [4, 4, 4, 4]
    assert [one["label"] for one in answer["queries"]] == LABELS


@pytest.mark.parametrize(
    "options",
    [
        {"per_query": 3},
        {"total": 10, "seed": 3},
        {"total": 9, "strategy": "best-match"},
        {"total": 6, "strategy": "random", "seed": 1},
    ],
)
def test_same_selection_as_the_command_line(
    client: TestClient,
    index: Index,
    query_images: list[bytes],
    tmp_path: Path,
    options: dict[str, object],
    as_query: AsQuery,
) -> None:
    for number, (data, label) in enumerate(zip(query_images, LABELS, strict=True)):
        path = tmp_path / "queries" / label / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    retrieve(
        index, tmp_path / "queries", tmp_path / "out", RetrieveOptions(SelectOptions(**options), near=False)
    )
    rows = pq.read_table(tmp_path / "out" / "samples.parquet").to_pylist()
    queries = [as_query(data, label) for data, label in zip(query_images, LABELS, strict=True)]
    answer = client.post("/retrieve", json={"queries": queries, **options}).json()
    expected = {row["item_id"]: (row["rank"], row["similarity"], row["hinted_label"]) for row in rows}
    found = {
        one["item_id"]: (
            one["rank"],
            None if one["score"] is None else round(one["score"], 4),
            one["hinted_label"],
        )
        for one in answer["results"]
    }
    assert {_hex(key): _rounded(value) for key, value in expected.items()} == found


def _hex(identity: bytes | str) -> str:
    return identity.hex() if isinstance(identity, bytes) else identity


def _rounded(row: tuple[int | None, float | None, str | None]) -> tuple[int | None, float | None, str | None]:
    rank, similarity, label = row
    return rank, None if similarity is None else round(similarity, 4), label


def test_upload_gives_what_json_gives(
    client: TestClient, query_images: list[bytes], as_query: AsQuery
) -> None:
    expected = client.post(
        "/retrieve",
        json={
            "queries": [as_query(d, la) for d, la in zip(query_images, LABELS, strict=True)],
            "total": 10,
            "seed": 2,
        },
    ).json()
    by_folder = [
        ("files", (f"{label}/{n}.jpg", data, "image/jpeg"))
        for n, (data, label) in enumerate(zip(query_images, LABELS, strict=True))
    ]
    in_folders = client.post("/retrieve", files=by_folder, data={"total": "10", "seed": "2"})
    assert in_folders.status_code == 200, in_folders.text
    assert in_folders.json() == expected
    plain = [("files", (f"{n}.jpg", data, "image/jpeg")) for n, data in enumerate(query_images)]
    parallel = client.post("/retrieve", files=plain, data={"total": "10", "seed": "2", "labels": LABELS})
    assert parallel.json() == expected


def test_queries_by_embedding_and_item_id(client: TestClient, index: Index) -> None:
    item = index.items(np.array([0], np.int64))[0]
    vector = index.embeddings(0)[0].astype(float) * 3.5
    by_vector = client.post(
        "/retrieve", json={"queries": [{"embedding": vector.tolist()}], "total": 3}
    ).json()
    assert by_vector["results"][0]["item_id"] == item.item_id.hex()
    assert by_vector["results"][0]["score"] == pytest.approx(1, abs=1e-3)
    by_id = client.post("/retrieve", json={"queries": [{"item_id": item.item_id.hex()}], "total": 2}).json()
    assert [one["item_id"] for one in by_id["results"]] == [
        one["item_id"] for one in by_vector["results"][1:]
    ]
    assert by_id["dropped"] == {"query": 1, "filtered": 0}


def test_a_query_that_is_in_the_pool_is_not_retrieved(
    client: TestClient, pool: Path, as_query: AsQuery
) -> None:
    data = (pool / "03.jpg").read_bytes()
    answer = client.post("/retrieve", json={"queries": [as_query(data)], "total": 30}).json()
    assert (answer["requested"], answer["returned"], answer["missing"]) == (30, 29, 1)
    assert answer["dropped"] == {"query": 1, "filtered": 0}
    assert any("missing" in note for note in answer["notes"])


def test_repeated_queries_count_once(
    client: TestClient, query_images: list[bytes], as_query: AsQuery
) -> None:
    queries = [
        as_query(query_images[0], "dog"),
        as_query(query_images[1], "cat"),
        as_query(query_images[0], "cat"),
    ]
    answer = client.post("/retrieve", json={"queries": queries, "per_query": 2}).json()
    assert answer["requested"] == 4
    assert {one["query"] for one in answer["results"]} == {1, 2}
    assert [one["same_as"] for one in answer["queries"]] == [2, None, None]


def test_data_uri_and_wrapped_base64(
    client: TestClient, query_images: list[bytes], as_query: AsQuery
) -> None:
    plain = client.post("/retrieve", json={"queries": [as_query(query_images[0])], "total": 3}).json()
    for text in (
        "data:image/jpeg;base64," + base64.b64encode(query_images[0]).decode(),
        base64.encodebytes(query_images[0]).decode(),
    ):
        assert client.post("/retrieve", json={"queries": [{"image": text}], "total": 3}).json() == plain


def test_concurrent_requests_get_their_own_answers(
    client: TestClient, query_images: list[bytes], as_query: AsQuery
) -> None:
    bodies = [{"queries": [as_query(data)], "per_query": 5} for data in query_images]
    alone = [client.post("/retrieve", json=body).json() for body in bodies]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda body: client.post("/retrieve", json=body).json(), bodies * 4))
    assert together == alone * 4


def test_min_similarity(client: TestClient, query_images: list[bytes], as_query: AsQuery) -> None:
    body = {"queries": [as_query(query_images[0])], "per_query": 10}
    scores = [one["score"] for one in client.post("/retrieve", json=body).json()["results"]]
    floor = (scores[3] + scores[4]) / 2
    answer = client.post("/retrieve", json={**body, "min_similarity": floor}).json()
    assert answer["returned"] == 4 and answer["missing"] == 6
    assert answer["queries"][0]["closing_similarity"] == scores[3]


def test_documents_both_bodies(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    body = schema["paths"]["/retrieve"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/json", "multipart/form-data"}
    for one in body.values():
        assert one["schema"]["$ref"].rpartition("/")[2] in schema["components"]["schemas"]
    references = {text.split('"')[0] for text in json.dumps(schema).split("#/components/schemas/")[1:]}
    assert references <= set(schema["components"]["schemas"])
    assert client.get("/docs").status_code == 200


def test_texts_find_images_where_the_encoder_has_a_text_tower(
    tmp_path: Path, tinyclip: Path, write_tar: Callable[..., Path], encode: Callable[..., bytes]
) -> None:
    colours = ("red", "green", "blue")
    plain = {f"{name}.png": encode(Image.new("RGB", (64, 64), name), "png") for name in colours}
    write_tar(tmp_path / "pool" / "colours.tar", plain)
    options = BuildOptions(encoder=f"open_clip:local-dir:{tinyclip}", runtime="eager", batch_size=4)
    build_index([tmp_path / "pool"], tmp_path / "index", options)
    index = open_index(tmp_path / "index")
    client = TestClient(create_app(index, Settings()))
    assert client.get("/healthz").json()["text_queries"] is True
    text = load_backbone(options.encoder or "").text
    assert text is not None
    for name in colours:
        feature = text.encode([f"a {name} square"])[0]
        cosines = index.embeddings(0).astype(float) @ (feature / np.linalg.norm(feature))
        body = {"queries": [{"text": f"a {name} square", "label": name}], "total": 3}
        answer = client.post("/retrieve", json=body).json()
        assert [one["score"] for one in answer["results"]] == pytest.approx(sorted(cosines)[::-1], abs=2e-5)
        nearest = index.item(int(np.argmax(cosines)))
        assert answer["results"][0]["item_id"] == nearest.item_id.hex()
