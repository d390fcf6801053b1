"""POST /retrieve with strategies, crops, names and filters: named and answered as by `curate retrieve`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from curate.index.build import build_index
from curate.index.index import Index, open_index
from curate.index.options import BuildOptions
from curate.retrieval import RetrieveOptions, retrieve
from curate.selection.filters import Filters
from curate.selection.options import StrategyOptions
from curate.selection.select_options import SelectOptions
from service import retrieval
from service.app import create_app
from service.encoder import open_encoder
from service.schemas import EXAMPLES, RetrieveRequest
from service.settings import Settings

ErrorOf = Callable[[Any, int], dict[str, Any]]
LABELS = ["cat", "cat", "dog", "ant"]


@pytest.fixture
def queries(query_images: list[bytes], as_query: Callable[..., dict[str, str]]) -> list[dict[str, str]]:
    return [as_query(data, label) for data, label in zip(query_images, LABELS, strict=True)]


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"strategy": "class-balanced"}, {"strategy": "class-balanced"}),
        (
            {"strategy": "diverse", "diversity": 0.6},
            {"strategy": "diverse", "tuning": StrategyOptions(diversity=0.6)},
        ),
        ({"strategy": "cluster", "seed": 4}, {"strategy": "cluster", "seed": 4}),
        ({"crops": True}, {"tuning": StrategyOptions(crops=True)}),
        ({"class_blend": 0.5}, {"tuning": StrategyOptions(class_blend=0.5)}),
        (
            {"min_side": 61, "where": ["extra.licence == CC0"], "caption_contains": ["PICTURE"]},
            {"filters": Filters(61, caption_contains=("PICTURE",), where=("extra.licence == CC0",))},
        ),
    ],
)
def test_the_same_as_the_command_line(
    client: TestClient,
    index: Index,
    query_images: list[bytes],
    queries: list[dict[str, str]],
    tmp_path: Path,
    fields: dict[str, Any],
    options: dict[str, Any],
) -> None:
    for number, (data, label) in enumerate(zip(query_images, LABELS, strict=True)):
        path = tmp_path / "queries" / label / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    found = retrieve(
        index,
        tmp_path / "queries",
        tmp_path / "out",
        RetrieveOptions(SelectOptions(total=9, **options), near=False),
    )
    response = client.post("/retrieve", json={"queries": queries, "total": 9, **fields})
    assert response.status_code == 200, response.text
    answer = response.json()
    import pyarrow.parquet as pq

    expected = {
        (row["item_id"], row["rank"], row["hinted_label"], row["similarity"])
        for row in pq.read_table(tmp_path / "out" / "samples.parquet").to_pylist()
    }
    got = {
        (one["item_id"], one["rank"], one["hinted_label"], round(one["score"], 4))
        for one in answer["results"]
    }
    assert got == expected and len(got) == 9
    assert answer["dropped"]["filtered"] == found.outcome["filtered"]
    classes = {
        one["label"]: (one["quota"], one["retrieved"], one["missing"]) for one in found.outcome["classes"]
    }
    assert {
        one["label"]: (one["quota"], one["returned"], one["missing"]) for one in answer["classes"]
    } == classes


def test_filters_in_a_form(client: TestClient, query_images: list[bytes]) -> None:
    answer = client.post(
        "/retrieve",
        files=[("files", ("a.jpg", query_images[0]))],
        data={"per_query": "20", "where": ["extra.licence == CC0", "key ~ 0000"], "crops": "true"},
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["returned"] == 10 and answer.json()["missing"] == 10
    assert all(one["extra"]["licence"] == "CC0" for one in answer.json()["results"])


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"where": ["licens == CC0"]}, "licens"),
        ({"where": ["what"]}, "not a condition"),
        ({"caption_matches": "("}, "regular expression"),
        ({"strategy": "text"}, "takes queries that are texts"),
        ({"strategy": "text-image"}, "no text tower"),
        ({"diversity": 0.4}, "diversity has no meaning"),
        ({"strategy": "diverse", "diversity": 2}, "diversity"),
        ({"max_aspect": 0.2}, "max_aspect"),
        ({"min_side": 100_000}, "filters leave none"),
        ({"filters": {}}, "filters"),
    ],
)
def test_what_makes_no_sense_is_told(
    client: TestClient, queries: list[dict[str, str]], error_of: ErrorOf, fields: dict[str, Any], told: str
) -> None:
    error = error_of(client.post("/retrieve", json={"queries": queries, "total": 9, **fields}), 422)
    assert told in error["message"], error


def test_clusters_of_a_large_index_are_not_made(
    client: TestClient, queries: list[dict[str, str]], error_of: ErrorOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval, "MOST_CLUSTERED", 5)
    body = {"queries": queries, "total": 9, "strategy": "cluster"}
    assert error_of(client.post("/retrieve", json=body), 422)["code"] == "index_too_large"


@pytest.fixture(scope="module")
def text_client(tmp_path_factory: pytest.TempPathFactory, pool: Path) -> TestClient:
    """A service over an index whose encoder, of random weights, has a text tower."""
    path = tmp_path_factory.mktemp("text") / "index"
    options = BuildOptions(
        encoder="open_clip:ViT-S-32-alt/none", image_size=32, runtime="eager", batch_size=4, faiss=False
    )
    build_index([pool], path, options)
    index = open_index(path)
    return TestClient(create_app(index, Settings(), open_encoder(index)), raise_server_exceptions=False)


def test_names_are_put_into_templates(text_client: TestClient, error_of: ErrorOf) -> None:
    named = [{"text": "dog", "label": "dog"}, {"text": "ant", "label": "ant"}]
    body = {"queries": named, "total": 8, "strategy": "text"}
    by_default = text_client.post("/retrieve", json=body)
    assert by_default.status_code == 200, by_default.text
    assert [one["returned"] for one in by_default.json()["queries"]] == [4, 4]
    given = text_client.post("/retrieve", json={**body, "templates": ["{}"]}).json()
    plain = text_client.post("/retrieve", json={"queries": named, "total": 8}).json()
    assert [one["score"] for one in given["results"]] == [one["score"] for one in plain["results"]]
    assert [one["score"] for one in given["results"]] != [
        one["score"] for one in by_default.json()["results"]
    ]
    error = error_of(text_client.post("/retrieve", json={**body, "templates": ["no place"]}), 422)
    assert "places for the class name" in error["message"]


def test_names_first_and_images_second(text_client: TestClient, queries: list[dict[str, str]]) -> None:
    body = {"queries": queries, "per_query": 3, "strategy": "text-image", "text_depth": 2}
    response = text_client.post("/retrieve", json=body)
    assert response.status_code == 200, response.text
    assert [one["returned"] for one in response.json()["queries"]] == [3, 3, 3, 3]


def test_the_examples_are_requests(client: TestClient) -> None:
    for example in EXAMPLES:
        RetrieveRequest.model_validate_json(json.dumps(example))
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert schemas["RetrieveRequest"]["examples"] == EXAMPLES
    for name in ("crops", "where", "min_side", "max_aspect", "caption_matches", "diversity", "templates"):
        assert (
            name in schemas["RetrieveRequest"]["properties"] and name in schemas["RetrieveForm"]["properties"]
        )
