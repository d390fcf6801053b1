"""The whole second round on a pool of URLs: retrieve, fetch, label, refine, and fetch again."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from curate import cli
from curate.fetch.completion import fetch
from curate.refinement.refine import refine
from curate.refinement.rule import Rule
from curate.retrieval import RetrieveOptions, retrieve
from curate.selection.select_options import SelectOptions
from distill.loop.execution import Execution
from distill.stages.adapt import AdaptOptions, adapt
from distill.stages.label import LabelOptions, label
from tests.curate.fetch.test_fetch import LOCAL, FetchOptions
from transferset.copies import item_id
from transferset.entry_point import run_cli

TINY = "timm:test_efficientnet@none"
ONE_THREAD = Execution(device="cpu", threads=1, workers=1)
FETCH = FetchOptions(LOCAL, min_agreement=0.999)
OPTIONS = RetrieveOptions(SelectOptions(total=24), workers=2)
RULE = Rule(uncertain_share=0.5, uncertain_queries=2, off_task=0.6)


@pytest.fixture
def teacher(tmp_path: Path, tinted: Any, encode: Any) -> Path:
    for split, start in (("train", 0), ("val", 50)):
        for name, tint in (("red", 0), ("blue", 2)):
            folder = tmp_path / "labelled" / split / name
            folder.mkdir(parents=True)
            for number in range(4):
                (folder / f"{number}.png").write_bytes(encode(tinted(tint, 800 + start + number), "png"))
    out = tmp_path / "teacher"
    labelled = tmp_path / "labelled"
    adapt(AdaptOptions(labelled, TINY, out, image_size=32, runtime="eager", execution=ONE_THREAD))
    return out


def _rows(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def test_a_fetched_set_is_labelled_and_refined(
    url_pool: Any,
    small_pool: Any,
    query_dir: Path,
    teacher: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, table, out = tmp_path / "first", tmp_path / "table.parquet", tmp_path / "refined"
    retrieve(url_pool.index, query_dir, first, replace(OPTIONS, selection=SelectOptions(total=20)))
    fetch(first, url_pool.index, FETCH)
    store = LabelOptions((first,), teacher, tmp_path / "store", views=1, augment="none", runtime="eager")
    compared = {"reject_from": (str(small_pool.pool),), "execution": ONE_THREAD}
    label(replace(store, table=table, **compared))  # type: ignore[arg-type]
    samples, told = _rows(first / "samples.parquet"), _rows(table)
    for name in ("item_id", "bytes_id", "hinted_label"):
        assert [row[name] for row in told] == [row[name] for row in samples]
    assert {row["hinted_label"] for row in told} == {"red", "blue"}

    report = refine(url_pool.index, query_dir, table, first, out, OPTIONS, RULE)
    random = json.loads(pq.read_schema(table).metadata[b"random_on_task"])["scores"]
    off_task = {row["item_id"] for row in told if row["on_task"] < np.quantile(random, 0.6)}
    assert (report.unjudged, report.uncertain) == (0, 2) and 0 < report.dropped < 20
    roles: dict[str, set[str]] = {"off task": set(), "uncertain": set()}
    for row in _rows(out / "refined.parquet"):
        roles[row["role"]].add(row["item_id"])
    assert roles["off task"] == off_task
    chosen = _rows(out / "samples.parquet")
    drawn = {row["item_id"]: row["query_ids"][0] for row in chosen}
    assert len(chosen) == 24 and not roles["off task"] & drawn.keys()
    assert all(drawn[one] == one for one in roles["uncertain"]), "each its own nearest image"
    assert sum(query in roles["uncertain"] for query in drawn.values()) == 12

    assert not report.retrieved.is_fetched
    fetch(out, url_pool.index, FETCH)
    for row in _rows(out / "samples.parquet"):
        path = "/" + row["url"].rpartition("/")[2]
        assert item_id(url_pool.site.files[path]).hex() == row["bytes_id"]
    assert len(_rows(out / "samples.parquet")) > 12

    given = ["refine", "--index", url_pool.index, "--query-dir", query_dir, "--table", table]
    given += ["--from", first, "--out", tmp_path / "again", "--total", 24]
    with pytest.raises(SystemExit) as ended:
        run_cli(cli.app, [str(word) for word in given])
    assert not ended.value.code and "next: curate fetch" in capsys.readouterr().err
