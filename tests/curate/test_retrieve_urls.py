"""`curate retrieve` on an index of ready embeddings: a transfer set of URLs, to be fetched."""

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curate import cli
from curate.index.index import open_index
from curate.pools.embeddings import name_id
from curate.retrieval import RetrieveOptions, retrieve
from curate.selection.select_options import SelectOptions
from transferset.entry_point import run_cli
from transferset.errors import DataError, UsageError
from transferset.writes import sha256_file

EIGHT = RetrieveOptions(SelectOptions(total=8))


@pytest.fixture
def fetched_later(ready_pool, query_dir, tmp_path) -> Path:
    retrieve(ready_pool.index, query_dir, tmp_path / "out", EIGHT)
    return tmp_path / "out"


def test_the_set_holds_urls_and_no_shards(fetched_later):
    names = {path.name for path in fetched_later.iterdir()} - {".lock"}
    assert names == {
        "samples.parquet",
        "queries.parquet",
        "removed.parquet",
        "report.html",
        "plots",
        "manifest.json",
    }
    manifest = json.loads((fetched_later / "manifest.json").read_text())
    assert (manifest["id_kind"], manifest["bytes"], manifest["shards"]) == ("url", "to fetch", [])
    assert manifest["outcome"]["samples"] == manifest["outcome"]["retrieved"] == 8
    rows = pq.read_table(fetched_later / "samples.parquet").to_pylist()
    assert len(rows) == 8
    for row in rows:
        assert row["shard"] is row["offset"] is row["size"] is None
        assert row["item_id"] == name_id(row["url"]).hex()
        assert row["hinted_label"] in ("red", "blue") and row["query_ids"] and row["similarity"] > 0
        assert (row["licence"], row["width"], row["height"]) == ("CC-BY", 640, None)
        assert row["source"].startswith("img_emb/") and row["caption"].startswith("picture ")


def test_the_selection_is_that_of_the_same_images_with_bytes(fetched_later, small_pool, query_dir, tmp_path):
    retrieve(small_pool.index, query_dir, tmp_path / "bytes", replace(EIGHT, near=False))
    with_bytes = pq.read_table(tmp_path / "bytes/samples.parquet").to_pylist()
    urls = pq.read_table(fetched_later / "samples.parquet").to_pylist()
    similarities = [
        sorted((row["similarity"], row["hinted_label"]) for row in rows if row["rank"] == 1)
        for rows in (with_bytes, urls)  # the same bytes at two URLs are two images here
    ]
    assert len(similarities[0]) == 4 and similarities[0] == similarities[1]
    manifest = json.loads((tmp_path / "bytes/manifest.json").read_text())
    assert (manifest["id_kind"], manifest["bytes"]) == ("bytes", "written")


def test_the_same_command_finds_it_complete_and_mends_it(fetched_later, ready_pool, query_dir):
    before = sha256_file(fetched_later / "samples.parquet")
    assert retrieve(ready_pool.index, query_dir, fetched_later, EIGHT).already_complete
    (fetched_later / "samples.parquet").write_bytes(b"")
    assert not retrieve(ready_pool.index, query_dir, fetched_later, EIGHT).already_complete
    assert sha256_file(fetched_later / "samples.parquet") == before


def test_nothing_is_said_to_be_checked(ready_pool, query_dir, tmp_path):
    options = RetrieveOptions(SelectOptions(total=8), exclude_dirs=(query_dir,))
    guard = retrieve(ready_pool.index, query_dir, tmp_path / "out", options).manifest["guard"]
    assert guard["checked"] == [] and "exact bytes" in guard["not_checked"]
    assert "not checked yet" in guard["statement"] and "4 images of queries" in guard["statement"]
    assert "curate fetch checks" in guard["statement"]


def test_the_report_shows_addresses_escaped(fetched_later):
    html = (fetched_later / "report.html").read_text()
    for row in pq.read_table(fetched_later / "samples.parquet").to_pylist():
        assert row["url"].replace("<b>", "&lt;b&gt;") in html
    assert "?<b>" not in html and "(no picture)" not in html
    assert html.count("data:image/jpeg") == 4  # the queries


def test_queries_cannot_be_in_it(ready_pool, query_dir, tmp_path):
    options = RetrieveOptions(SelectOptions(total=20, include_queries=True))
    with pytest.raises(UsageError, match="--include-queries"):
        retrieve(ready_pool.index, query_dir, tmp_path / "out", options)


def test_distill_says_what_is_missing(fetched_later):
    from distill.data.transfer_shards import open_transfer_shards

    with pytest.raises(DataError, match="8 of 8 images") as caught:
        open_transfer_shards([fetched_later])
    assert "curate fetch --transfer-set" in (caught.value.hint or "")


def test_the_command_says_what_is_next(ready_pool, query_dir, tmp_path, capsys):
    command = ["retrieve", "--index", ready_pool.index, "--query-dir", query_dir, "--out", tmp_path / "o"]
    with pytest.raises(SystemExit) as caught:
        run_cli(cli.app, [str(one) for one in [*command, "--total", 8]])
    output = capsys.readouterr()
    assert not caught.value.code
    assert "as URLs, no images yet" in output.out
    assert f"next: curate fetch --transfer-set {tmp_path / 'o'}" in output.err


def test_the_strategies_work_without_bytes(ready_pool, query_dir, tmp_path):
    for strategy in ("best-match", "random"):
        out = tmp_path / strategy
        report = retrieve(
            ready_pool.index, query_dir, out, RetrieveOptions(SelectOptions(5, strategy=strategy))
        )
        assert report.outcome["retrieved"] == 5 and "https://" in (out / "report.html").read_text()
    assert open_index(ready_pool.index).distinct == 72
