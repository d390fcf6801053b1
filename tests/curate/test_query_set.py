"""Retrieval by names, by crops, with blended queries and filters: whole runs of `retrieve`."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from curate.index.build import build_index
from curate.index.encoder import resume
from curate.index.index import open_index
from curate.index.options import BuildOptions
from curate.query_set import encode_queries
from curate.retrieval import RetrieveOptions, retrieve
from curate.selection.filters import Filters
from curate.selection.options import StrategyOptions
from curate.selection.queries import load_queries
from curate.selection.select_options import SelectOptions
from transferset.errors import UsageError
from transferset.writes import read_json, write_json

Make = Callable[..., Any]


def _run(index: Path, query_dir: Path | None, out: Path, **selection: Any) -> list[dict[str, Any]]:
    options = SelectOptions(**({"total": 12} | selection))
    retrieve(index, query_dir, out, RetrieveOptions(options, workers=2))
    return pq.read_table(out / "samples.parquet").to_pylist()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, pool_tars: list[Path], tinyclip: Path) -> Path:
    """An index of 600 real photographs by a small CLIP."""
    import tarfile

    root = tmp_path_factory.mktemp("clip")
    (root / "pool").mkdir()
    with tarfile.open(pool_tars[0]) as source, tarfile.open(root / "pool" / "0.tar", "w") as target:
        for member in source:
            if int(member.name.partition(".")[0]) >= 600:
                break
            target.addfile(member, source.extractfile(member))
    options = BuildOptions(encoder=f"open_clip:local-dir:{tinyclip}", faiss=False)
    build_index([root / "pool"], root / "index", options)
    return root / "index"


def test_names_retrieve_without_an_image(clip: Path, tmp_path: Path) -> None:
    names = {"food": "a plate of food", "dog": "dog", "mountain": "mountain"}
    rows = _run(clip, None, tmp_path / "out", strategy="text", tuning=StrategyOptions(class_names=names))
    assert sorted(row["hinted_label"] for row in rows) == ["dog"] * 4 + ["food"] * 4 + ["mountain"] * 4
    manifest = read_json(tmp_path / "out" / "manifest.json")
    assert manifest["arguments"]["selection"]["tuning"] == {"class_names": names}
    assert [one["missing"] for one in manifest["outcome"]["classes"]] == [0, 0, 0]
    queries = pq.read_table(tmp_path / "out" / "queries.parquet").to_pylist()
    assert [(one["label"], one["name"]) for one in queries][1] == ("food", "a plate of food")
    index, model = open_index(clip), resume(open_index(clip).plan, BuildOptions())
    assert model.text is not None
    features = model.text.encode(["a photo of a dog"])
    dogs = [index.item(bytes.fromhex(row["item_id"])) for row in rows if row["hinted_label"] == "dog"]
    vectors = np.stack([index.embeddings(item.part)[item.row].astype(np.float32) for item in dogs])
    everything = np.concatenate([index.embeddings(part.number) for part in index.parts]).astype(np.float32)
    direction = features[0] / np.linalg.norm(features[0])
    assert (vectors @ direction).mean() > np.quantile(everything @ direction, 0.97)
    assert "a plate of food" in (tmp_path / "out" / "report.html").read_text()


def test_class_folders_name_the_classes_too(clip: Path, query_dir: Path, tmp_path: Path) -> None:
    rows = _run(clip, query_dir, tmp_path / "text", strategy="text")
    assert sorted(row["hinted_label"] for row in rows) == ["blue"] * 6 + ["red"] * 6
    rows = _run(clip, query_dir, tmp_path / "both", strategy="text-image")
    assert sorted(row["hinted_label"] for row in rows) == ["blue"] * 6 + ["red"] * 6
    assert len({row["query_ids"][0] for row in rows}) == 4, "each image drew some"
    unknown = StrategyOptions(class_names={"green": "grass"})
    with pytest.raises(UsageError, match="green"):
        _run(clip, query_dir, tmp_path / "unknown", strategy="text", tuning=unknown)


def test_without_a_text_tower_names_are_of_no_use(small_pool: Any, query_dir: Path, tmp_path: Path) -> None:
    for strategy in ("text", "text-image"):
        with pytest.raises(UsageError, match="no text tower"):
            _run(small_pool.index, query_dir, tmp_path / "out", strategy=strategy)
    assert not (tmp_path / "out").exists()


def test_images_or_names_have_to_be_given(small_pool: Any, clip: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--query-dir is missing"):
        _run(small_pool.index, None, tmp_path / "out")
    with pytest.raises(UsageError, match="needs class names"):
        _run(clip, None, tmp_path / "out", strategy="text")


def test_an_item_counts_by_the_crop_that_it_is_most_like(
    small_pool: Any, query_dir: Path, tmp_path: Path
) -> None:
    plain = _run(small_pool.index, query_dir, tmp_path / "plain")
    rows = _run(small_pool.index, query_dir, tmp_path / "crops", tuning=StrategyOptions(crops=True))
    assert len({row["item_id"] for row in rows}) == 12
    index = open_index(small_pool.index)
    queries = load_queries(query_dir).queries
    vectors = encode_queries(index, resume(index.plan, BuildOptions()).model, queries, crops=True)
    numbers = {query.query_id: number for number, query in enumerate(queries)}
    for row in rows:
        item = index.item(bytes.fromhex(row["item_id"]))
        stored = index.embeddings(item.part)[item.row].astype(np.float64)
        cosines = vectors[numbers[row["query_ids"][0]]] @ stored / np.linalg.norm(stored)
        assert row["similarity"] == pytest.approx(cosines.max(), abs=1e-4)
    closest = {row["query_ids"][0]: max(row["similarity"] for row in plain) for row in plain}
    assert max(row["similarity"] for row in rows) >= max(closest.values()) - 1e-4


def test_blended_queries_keep_their_true_similarity(small_pool: Any, query_dir: Path, tmp_path: Path) -> None:
    rows = _run(small_pool.index, query_dir, tmp_path / "out", tuning=StrategyOptions(class_blend=1.0))
    index = open_index(small_pool.index)
    queries = load_queries(query_dir).queries
    vectors = encode_queries(index, resume(index.plan, BuildOptions()).model, queries)
    mean = vectors[[query.label == "red" for query in queries]].sum(axis=0)
    numbers = {query.query_id: number for number, query in enumerate(queries)}
    positions, _ = index.search((mean / np.linalg.norm(mean))[None].astype(np.float32), 6)
    nearest = {index.item(int(one)).item_id.hex() for one in positions[0]}
    assert {row["item_id"] for row in rows if row["hinted_label"] == "red"} == nearest
    for row in rows:
        item = index.item(bytes.fromhex(row["item_id"]))
        stored = index.embeddings(item.part)[item.row].astype(np.float64)
        cosine = vectors[numbers[row["query_ids"][0]]] @ stored / np.linalg.norm(stored)
        assert row["similarity"] == pytest.approx(cosine, abs=1e-4)


@pytest.mark.parametrize("strategy", ["class-balanced", "diverse", "cluster"])
def test_strategies_write_whole_sets(small_pool: Any, query_dir: Path, tmp_path: Path, strategy: str) -> None:
    rows = _run(small_pool.index, query_dir, tmp_path / "out", strategy=strategy)
    assert len({row["item_id"] for row in rows}) == 12
    again = _run(small_pool.index, query_dir, tmp_path / "again", strategy=strategy)
    assert rows == again
    report = (tmp_path / "out" / "report.html").read_text()
    assert "Is it balanced?" in report


def test_filters_are_counted_and_told(
    small_pool: Any, query_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filters = Filters(caption_contains=("TINT",), where=("license == CC0",))
    rows = _run(small_pool.index, query_dir, tmp_path / "out", total=60, filters=filters)
    assert len(rows) == 48 and all(row["licence"] == "CC0" for row in rows)
    outcome = read_json(tmp_path / "out" / "manifest.json")["outcome"]
    assert outcome["filtered"] == 22
    assert {one["label"]: (one["quota"], one["missing"]) for one in outcome["classes"]} == {
        "blue": (30, 30 - outcome["classes"][0]["retrieved"]),
        "red": (30, 30 - outcome["classes"][1]["retrieved"]),
    }
    told = capsys.readouterr().err
    assert "filters left out 22 images" in told and "by class:" in told


def test_a_set_of_an_older_version_is_the_one_of_the_same_options(
    small_pool: Any, query_dir: Path, tmp_path: Path
) -> None:
    _run(small_pool.index, query_dir, tmp_path / "out")
    manifest = read_json(tmp_path / "out" / "manifest.json")
    for name in ("filters", "tuning"):
        del manifest["arguments"]["selection"][name]
    write_json(tmp_path / "out" / "manifest.json", manifest)
    again = retrieve(
        small_pool.index, query_dir, tmp_path / "out", RetrieveOptions(SelectOptions(total=12), workers=2)
    )
    assert again.already_complete
    other = SelectOptions(total=12, filters=Filters(min_side=3))
    with pytest.raises(UsageError, match=r"selection\.filters\.min_side: none there, 3 now"):
        retrieve(small_pool.index, query_dir, tmp_path / "out", RetrieveOptions(other, workers=2))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"strategy": "text", "include_queries": True}, "--include-queries has no meaning"),
        ({"strategy": "cluster", "tuning": StrategyOptions(diversity=0.5)}, "--diversity has no meaning"),
        ({"tuning": StrategyOptions(text_depth=9)}, "--text-depth has no meaning"),
        ({"tuning": StrategyOptions(templates=("{}",))}, "--templates has no meaning"),
        ({"strategy": "random", "tuning": StrategyOptions(crops=True)}, "--crops has no meaning"),
        ({"strategy": "text", "tuning": StrategyOptions(class_blend=0.2)}, "--class-blend has no meaning"),
        ({"min_similarity": 0.2, "tuning": StrategyOptions(class_blend=0.2)}, "can't be combined"),
    ],
)
def test_options_that_dont_fit_the_strategy(given: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        SelectOptions(total=3, **given)


def test_settings_out_of_range() -> None:
    for given in ({"class_blend": 1.1}, {"diversity": -0.1}, {"text_depth": 0}, {"templates": ()}):
        with pytest.raises(UsageError):
            StrategyOptions(**given)
    assert dataclasses.replace(StrategyOptions(), diversity=1.0).diversity == 1
