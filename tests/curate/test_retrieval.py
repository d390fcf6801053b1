import dataclasses
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from curate.index.encoder import resume
from curate.index.index import open_index
from curate.index.options import BuildOptions
from curate.query_set import encode_queries
from curate.retrieval import RetrieveOptions, retrieve, retrieve_items
from curate.selection.queries import Query, load_queries
from curate.selection.select_options import SelectOptions
from tests.trees import tree
from transferset.copies import item_id
from transferset.errors import BusyError, DataError, UsageError
from transferset.lock import DirectoryLock
from transferset.writes import read_json

Make = Callable[..., Any]


def _options(exclude: tuple[Path, ...] = (), shard_size: int = 10, **selection: Any) -> RetrieveOptions:
    amounts = {} if "per_query" in selection else {"total": 24}
    return RetrieveOptions(SelectOptions(**amounts | selection), exclude, shard_size, workers=2)


@pytest.fixture
def retrieved(small_pool: Any, query_dir: Path, tmp_path: Path) -> Path:
    retrieve(small_pool.index, query_dir, tmp_path / "out", _options())
    return tmp_path / "out"


def test_nothing_is_written_into_what_is_read(small_pool: Any, query_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(query_dir)
    for out, option in (
        (small_pool.index / "out", "--index"),
        (query_dir / "red", "--query-dir"),
        (tmp_path / "link" / "new", "--query-dir"),
        (small_pool.pool / "loose", "--exclude-dir"),
    ):
        options = _options((small_pool.pool / "loose",))
        with pytest.raises(UsageError, match=f"lies in {option}"):
            retrieve(small_pool.index, query_dir, out, options)
        assert not (out / ".lock").exists() and not (out / "manifest.json").exists()


def test_the_folder_is_a_transfer_set(retrieved: Path, small_pool: Any) -> None:
    assert sorted(tree(retrieved)) == [
        "manifest.json", "plots/closing_similarity.png", "plots/directions.png", "plots/images_per_class.png",
        "plots/images_per_query.png", "plots/similarity.png",
        "queries.parquet", "removed.parquet", "report.html", "samples.parquet",
        "shards/000000.tar", "shards/000001.tar", "shards/000002.tar",
    ]  # fmt: skip
    rows = pq.read_table(retrieved / "samples.parquet").to_pylist()
    known = {item_id(data).hex(): data for data in small_pool.images.values()}
    for row in rows:
        tar = (retrieved / "shards" / row["shard"]).read_bytes()
        assert tar[row["offset"] : row["offset"] + row["size"]] == known[row["item_id"]]
    assert len({row["item_id"] for row in rows}) == 24
    assert {row["hinted_label"] for row in rows[:10]} == {"red", "blue"}, "classes are mixed from the start"
    manifest = read_json(retrieved / "manifest.json")
    assert manifest["outcome"]["retrieved"] == 24 and manifest["outcome"]["missing"] == 0
    assert {one["label"]: one["retrieved"] for one in manifest["outcome"]["classes"]} == {
        "blue": 12,
        "red": 12,
    }
    assert [shard["samples"] for shard in manifest["shards"]] == [10, 10, 4]
    queries = pq.read_table(retrieved / "queries.parquet").to_pylist()
    assert [(row["quota"], row["filled"]) for row in queries] == [(6, 6)] * 4


def test_provenance_stands_beside_each_image(retrieved: Path) -> None:
    rows = {row["item_id"]: row for row in pq.read_table(retrieved / "samples.parquet").to_pylist()}
    with tarfile.open(retrieved / "shards" / "000000.tar") as tar:
        names = tar.getnames()
        assert names[1] == names[0].partition(".")[0] + ".json"
        for name in names[1::2]:
            about = json.load(tar.extractfile(name))  # type: ignore[arg-type]
            row = rows[about["item_id"]]
            for column in ("query_ids", "hinted_label", "rank", "similarity", "source", "url", "licence"):
                assert about[column] == row[column]
            assert about["similarity"] == round(about["similarity"], 4)
            assert about["source"] in ("t.tar", f"loose/{about['source'].rpartition('/')[2]}")
            assert about["licence"] == ("CC0" if about["source"] == "t.tar" else None)


def test_webdataset_reads_the_shards(retrieved: Path) -> None:
    wds = pytest.importorskip("webdataset")
    shards = sorted(str(path) for path in (retrieved / "shards").glob("*.tar"))
    seen = list(wds.WebDataset(shards, shardshuffle=False).decode("rgb8"))
    assert len(seen) == 24
    for sample in seen:
        pixels = next(sample[ext] for ext in ("jpg", "png") if ext in sample)
        assert pixels.shape == (48, 48, 3)
        assert sample["json"]["item_id"] == sample["__key__"]


def test_the_same_inputs_give_the_same_bytes_wherever_they_are(
    retrieved: Path, small_pool: Any, query_dir: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(small_pool.index, moved / "index")
    shutil.copytree(small_pool.pool, moved / "pool")
    shutil.copytree(query_dir, moved / "q")
    roots = {str(small_pool.pool): str(moved / "pool")}
    options = dataclasses.replace(_options(), pool_roots=roots, workers=1)
    retrieve(moved / "index", moved / "q", tmp_path / "again", options)
    assert tree(tmp_path / "again") == tree(retrieved)
    for name, data in tree(retrieved).items():
        assert str(tmp_path).encode() not in data and b"/tmp" not in data, name


def test_another_seed_shuffles_and_changes_nothing_else(
    retrieved: Path, small_pool: Any, query_dir: Path, tmp_path: Path
) -> None:
    retrieve(small_pool.index, query_dir, tmp_path / "other", _options(seed=1))
    first, second = (
        pq.read_table(folder / "samples.parquet").column("item_id").to_pylist()
        for folder in (retrieved, tmp_path / "other")
    )
    assert first != second and sorted(first) == sorted(second)


def test_the_same_command_again_finds_it_complete(
    retrieved: Path, small_pool: Any, query_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(retrieved)
    report = retrieve(small_pool.index, query_dir, retrieved, _options())
    assert report.already_complete and report.outcome["retrieved"] == 24
    assert "already complete" in capsys.readouterr().err
    assert tree(retrieved) == before


def test_what_was_damaged_is_written_again(retrieved: Path, small_pool: Any, query_dir: Path) -> None:
    before = tree(retrieved)
    kept = (retrieved / "shards" / "000002.tar").stat().st_mtime_ns
    (retrieved / "shards" / "000000.tar").unlink()
    (retrieved / "shards" / "000001.tar").write_bytes(b"short")
    report = retrieve(small_pool.index, query_dir, retrieved, _options())
    assert not report.already_complete
    assert tree(retrieved) == before
    assert (retrieved / "shards" / "000002.tar").stat().st_mtime_ns == kept


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"total": 20}, "total: 24 there, 20 now"),
        ({"seed": 1}, "seed: 0 there, 1 now"),
        ({"strategy": "random"}, "strategy"),
    ],
)
def test_other_arguments_are_refused_with_the_difference(
    retrieved: Path, small_pool: Any, query_dir: Path, changed: dict[str, Any], told: str
) -> None:
    before = tree(retrieved)
    with pytest.raises(UsageError, match=told):
        retrieve(small_pool.index, query_dir, retrieved, _options(**changed))
    assert tree(retrieved) == before


def test_a_folder_of_something_else_is_refused(small_pool: Any, query_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"not empty .*chapter\.txt"):
        retrieve(small_pool.index, query_dir, tmp_path / "thesis", _options())


def test_a_live_writer_is_left_alone(small_pool: Any, query_dir: Path, tmp_path: Path) -> None:
    with DirectoryLock(tmp_path / "out"), pytest.raises(BusyError):
        retrieve(small_pool.index, query_dir, tmp_path / "out", _options())


def test_a_failure_leaves_no_folder(small_pool: Any, query_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing can be retrieved"):
        retrieve(small_pool.index, query_dir, tmp_path / "out", _options(min_similarity=1.0))
    assert not (tmp_path / "out").exists()


def test_queries_can_be_written_too(small_pool: Any, query_dir: Path, tmp_path: Path) -> None:
    report = retrieve(small_pool.index, query_dir, tmp_path / "out", _options(include_queries=True))
    assert (report.outcome["retrieved"], report.outcome["written_queries"]) == (20, 4)
    rows = pq.read_table(tmp_path / "out" / "samples.parquet").to_pylist()
    own = [row for row in rows if row["rank"] == 0]
    assert sorted(row["item_id"] for row in own) == sorted(
        item_id(path.read_bytes()).hex() for path in query_dir.rglob("*.png")
    )
    assert all(row["similarity"] == 1.0 and row["query_ids"] == [row["item_id"]] for row in own)


def test_a_random_set_is_for_no_query(small_pool: Any, query_dir: Path, tmp_path: Path) -> None:
    retrieve(small_pool.index, query_dir, tmp_path / "out", _options(strategy="random"))
    rows = pq.read_table(tmp_path / "out" / "samples.parquet").to_pylist()
    assert len(rows) == 24
    assert all(row["query_ids"] == [] and row["hinted_label"] is None and row["rank"] is None for row in rows)


def test_excluded_images_and_queries_are_kept_out_and_listed(
    small_pool: Any, query_dir: Path, tmp_path: Path, encode: Make
) -> None:
    plain = retrieve(small_pool.index, query_dir, tmp_path / "plain", _options())
    rows = pq.read_table(tmp_path / "plain" / "samples.parquet").to_pylist()
    by_id = {item_id(data).hex(): data for data in small_pool.images.values()}
    leaks = [row["item_id"] for row in rows if row["hinted_label"] == "red"][:3]
    from transferset.images import decode

    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "exact.img.jpg").write_bytes(by_id[leaks[0]])
    (tmp_path / "test" / "pixels.png").write_bytes(encode(decode(by_id[leaks[1]]), "png", compress_level=1))
    (query_dir / "red" / "in_pool.jpg").write_bytes(by_id[leaks[2]])
    options = _options((tmp_path / "test",), per_query=4)
    report = retrieve(small_pool.index, query_dir, tmp_path / "out", options)
    kept = {row["item_id"] for row in pq.read_table(tmp_path / "out" / "samples.parquet").to_pylist()}
    assert not kept & set(leaks)
    assert report.outcome["missing"] == 0
    removed = pq.read_table(tmp_path / "out" / "removed.parquet").to_pylist()
    assert {(row["item_id"], row["why"], row["match"]) for row in removed} == {
        (leaks[0], "exact bytes", "test/exact.img.jpg"),
        (leaks[1], "same pixels", "test/pixels.png"),
        (leaks[2], "query", leaks[2]),
    }
    assert report.manifest["guard"]["checked"][:2] == ["exact bytes", "same pixels"]
    assert len(report.manifest["guard"]["checked"]) == 3
    assert "near copies" in report.manifest["guard"]["statement"]
    assert plain.manifest["guard"]["checked"] == []
    page = (tmp_path / "out" / "report.html").read_text()
    assert (
        "Kept out: 3 images" in page
        and "2 copies of excluded images removed" in page
        and "near copies" in page
    )


def test_more_than_the_pool_holds_is_a_reported_shortfall(
    small_pool: Any, query_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = retrieve(small_pool.index, query_dir, tmp_path / "out", _options(total=500))
    assert report.outcome["retrieved"] == 70, "two files of the pool repeat bytes of the tar"
    assert report.outcome["missing"] == 430
    assert "430 images are missing" in capsys.readouterr().err


def test_a_pool_that_moved_is_told_with_the_remedy(small_pool: Any, query_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(small_pool.index, tmp_path / "i" / "index")
    plan = tmp_path / "i" / "index" / "plan.json"
    plan.write_text(
        plan.read_text().replace(str(small_pool.pool), "/nowhere/pool").replace("../pool", "../gone")
    )
    with pytest.raises(DataError, match="cannot be read") as caught:
        retrieve(tmp_path / "i" / "index", query_dir, tmp_path / "out", _options())
    assert "--pool-root" in (caught.value.hint or "")
    roots = {"/nowhere/pool": str(small_pool.pool)}
    options = dataclasses.replace(_options(), pool_roots=roots)
    assert retrieve(tmp_path / "i" / "index", query_dir, tmp_path / "out", options).outcome["retrieved"] == 24


def test_unreadable_queries_are_listed_and_may_be_too_many(
    small_pool: Any, query_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (query_dir / "red" / "bad <i>.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    report = retrieve(small_pool.index, query_dir, tmp_path / "out", _options())
    assert [error["name"] for error in report.manifest["query_errors"]] == ["red/bad <i>.png"]
    assert "unreadable query: red/bad <i>.png" in capsys.readouterr().err
    assert "bad &lt;i&gt;.png" in (tmp_path / "out" / "report.html").read_text()
    strict = dataclasses.replace(_options(), max_error_rate=0.1)
    with pytest.raises(DataError, match="max-error-rate"):
        retrieve(small_pool.index, query_dir, tmp_path / "strict", strict)


def test_memory_and_folder_give_the_same_selection(small_pool: Any, query_dir: Path, retrieved: Path) -> None:
    index = open_index(small_pool.index)
    model = resume(index.plan, BuildOptions()).model
    queries = load_queries(query_dir).queries
    vectors = encode_queries(index, model, queries)
    ready = [dataclasses.replace(q, path=None, vector=v) for q, v in zip(queries, vectors, strict=True)]
    in_memory = [Query(q.query_id, q.label, q.name, data=q.read()) for q in queries]
    expected = {
        (row["item_id"], row["query_ids"][0], row["rank"])
        for row in pq.read_table(retrieved / "samples.parquet").to_pylist()
    }
    for given, encoder in ((in_memory, model), (ready, None)):
        selection = retrieve_items(index, encoder, given, SelectOptions(total=24))
        items = index.items(np.array([pick.position for pick in selection.picks]))
        found = {
            (item.item_id.hex(), queries[pick.query].query_id, pick.rank)
            for item, pick in zip(items, selection.picks, strict=True)
            if pick.query is not None
        }
        assert found == expected


def test_an_unlabelled_query_that_is_no_image(small_pool: Any) -> None:
    index = open_index(small_pool.index)
    model = resume(index.plan, BuildOptions()).model
    with pytest.raises(DataError, match="query 0 cannot be read"):
        retrieve_items(index, model, [Query("00" * 16, None, "0", data=b"x")], SelectOptions(total=2))


@pytest.mark.parametrize("changes", [{"shard_size": 0}, {"max_error_rate": 2.0}, {"workers": 0}])
def test_options_that_make_no_sense(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        RetrieveOptions(SelectOptions(total=1), **changes)
