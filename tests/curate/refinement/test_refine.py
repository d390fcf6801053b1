"""`curate refine` on a small index, with tables in the format of `distill label --table`."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate import cli
from curate.refinement.judgement import read_judgement
from curate.refinement.refine import RefineReport, refine
from curate.refinement.rule import Rule
from curate.retrieval import RetrieveOptions, retrieve
from curate.selection.select_options import SelectOptions
from transferset.entry_point import run_cli
from transferset.errors import DataError, UsageError
from transferset.writes import read_json, sha256_file

OPTIONS = RetrieveOptions(SelectOptions(total=30), workers=2, shard_size=10)
RULE = Rule(uncertain_share=0.4, uncertain_queries=2)


@pytest.fixture(scope="module")
def queries(tmp_path_factory: pytest.TempPathFactory, tinted: Any, encode: Any) -> Path:
    """Two queries of each of two tints, none of which is in the pool."""
    root = tmp_path_factory.mktemp("queries")
    for label, tint in (("red", 0), ("blue", 2)):
        (root / label).mkdir()
        for number in range(2):
            (root / label / f"{number}.png").write_bytes(encode(tinted(tint, 900 + number), "png"))
    return root


@pytest.fixture(scope="module")
def first(small_pool: Any, queries: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("first") / "set"
    retrieve(small_pool.index, queries, out, replace(OPTIONS, selection=SelectOptions(total=20)))
    return out


def _ids(transfer_set: Path) -> list[str]:
    ids: list[str] = pq.read_table(transfer_set / "samples.parquet").column("item_id").to_pylist()
    return ids


@pytest.fixture(scope="module")
def table(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 20 images the first is unreadable, four are flat, two torn, the others are red; three of the flat
    ones and no other look less on task than most random images do."""
    rows = [[0.01, 0.01, 0.98]] * 20
    rows[1:5] = [[0.34, 0.33, 0.33]] * 4
    rows[7:9] = [[0.48, 0.04, 0.48]] * 2
    p = np.array(rows)
    entropy = (-(p * np.log(p)).sum(axis=1)).tolist()
    on_task = np.linspace(4, 6, 20)
    on_task[1:4] = [1.0, 2.0, 2.9]
    columns = {
        "item_id": _ids(first),
        "entropy": [None, *entropy[1:]],
        "probabilities": [None, *p.tolist()[1:]],
        "on_task": [None, *on_task.tolist()[1:]],
    }
    random = {"scores": [0.0, 1.5, 3.0, 4.5, 9.0], "unreadable": 0, "pool": ["pool"], "seed": 0}
    schema = pa.schema(
        [
            ("item_id", pa.string()),
            ("entropy", pa.float32()),
            ("probabilities", pa.list_(pa.float32())),
            ("on_task", pa.float32()),
        ],
        metadata={"classes": json.dumps(["blue", "green", "red"]), "random_on_task": json.dumps(random)},
    )
    path = tmp_path_factory.mktemp("table") / "t.parquet"
    pq.write_table(pa.table(columns, schema=schema), path)
    return path


@pytest.fixture(scope="module")
def refined(
    small_pool: Any, queries: Path, first: Path, table: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, RefineReport]:
    out = tmp_path_factory.mktemp("refined") / "set"
    return out, refine(small_pool.index, queries, table, first, out, OPTIONS, RULE)


def test_it_is_a_transfer_set_like_any_other(
    refined: tuple[Path, RefineReport], first: Path, table: Path
) -> None:
    out, report = refined
    manifest = read_json(out / "manifest.json")
    assert manifest["kind"] == "transfer set" and manifest["outcome"]["retrieved"] == 30
    assert manifest["arguments"]["refine"] == {
        **RULE.describe(),
        "table": sha256_file(table),
        "from": sha256_file(first / "samples.parquet"),
    }
    columns = pq.read_schema(out / "samples.parquet").names
    assert columns == pq.read_schema(first / "samples.parquet").names
    assert (report.dropped, report.uncertain, report.unjudged) == (3, 2, 1)


def test_what_is_off_task_is_gone_and_the_torn_ones_have_neighbours(
    refined: tuple[Path, RefineReport], first: Path
) -> None:
    out, _ = refined
    before, now = _ids(first), pq.read_table(out / "samples.parquet").to_pylist()
    assert not set(before[1:4]) & {row["item_id"] for row in now}
    drawn = {row["item_id"]: row["query_ids"][0] for row in now}
    for torn in before[7:9]:
        assert drawn[torn] == torn, "it stays, its own nearest image"
        assert list(drawn.values()).count(torn) == 6
    told = pq.read_table(out / "refined.parquet").to_pylist()
    assert [row["on_task"] for row in told[:3]] == pytest.approx([1.0, 2.0, 2.9])
    assert [(row["item_id"], row["role"]) for row in told] == [
        *((one, "off task") for one in before[1:4]),
        *((one, "uncertain") for one in before[7:9]),
    ]


def test_the_class_that_is_rare_gets_more(refined: tuple[Path, RefineReport], queries: Path) -> None:
    out, report = refined
    assert report.weights["blue"] > 1 > report.weights["red"]
    quotas: dict[str, int] = {}
    for row in pq.read_table(out / "queries.parquet").to_pylist():
        if not row["name"].startswith("uncertain"):
            quotas[row["label"]] = quotas.get(row["label"], 0) + row["quota"]
    assert sum(quotas.values()) == 18
    assert quotas["blue"] / quotas["red"] == pytest.approx(
        report.weights["blue"] / report.weights["red"], rel=0.4
    )


def test_the_same_command_finds_it_complete_and_elsewhere_gives_the_same_bytes(
    refined: tuple[Path, RefineReport],
    small_pool: Any,
    queries: Path,
    first: Path,
    table: Path,
    tmp_path: Path,
) -> None:
    out, _ = refined
    assert refine(small_pool.index, queries, table, first, out, OPTIONS, RULE).retrieved.already_complete
    refine(small_pool.index, queries, table, first, tmp_path / "again", OPTIONS, RULE)
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        assert (tmp_path / "again" / path.relative_to(out)).read_bytes() == path.read_bytes(), path
    other = replace(RULE, off_task=0.3)
    with pytest.raises(UsageError, match=r"refine\.off_task: 0\.5 there, 0\.3 now"):
        refine(small_pool.index, queries, table, first, out, OPTIONS, other)


def test_an_interrupted_one_goes_on(
    refined: tuple[Path, RefineReport],
    small_pool: Any,
    queries: Path,
    first: Path,
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from curate.transfer_set import writing

    write, calls = writing.write_shard, []

    def stops_at_the_second(*given: Any) -> str:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return write(*given)

    monkeypatch.setattr(writing, "write_shard", stops_at_the_second)
    out = tmp_path / "set"
    with pytest.raises(KeyboardInterrupt):
        refine(small_pool.index, queries, table, first, out, OPTIONS, RULE)
    monkeypatch.undo()
    refine(small_pool.index, queries, table, first, out, OPTIONS, RULE)
    assert (out / "manifest.json").read_bytes() == (refined[0] / "manifest.json").read_bytes()
    assert not (out / ".plan").exists()


def test_a_table_that_does_not_say_what_is_on_task(
    small_pool: Any, queries: Path, first: Path, table: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Nothing is dropped, which is told; a share that is asked for is that of the flattest."""
    old = pq.read_table(table).drop_columns("on_task")
    metadata = {"classes": old.schema.metadata[b"classes"]}
    pq.write_table(old.replace_schema_metadata(metadata), tmp_path / "old.parquet")
    given = (small_pool.index, queries, tmp_path / "old.parquet", first)
    report = refine(*given, tmp_path / "none", OPTIONS, RULE)
    assert report.dropped == 0 and "--reject-from POOL adds them" in capsys.readouterr().err
    report = refine(*given, tmp_path / "share", OPTIONS, replace(RULE, drop=0.2))
    assert report.dropped == 3 and "nothing is dropped" not in capsys.readouterr().err
    told = pq.read_table(tmp_path / "share" / "refined.parquet").to_pylist()
    assert [row["item_id"] for row in told[:3]] == _ids(first)[1:4] and told[0]["on_task"] is None


def test_tables_that_are_none(
    small_pool: Any, queries: Path, first: Path, table: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="not a transfer set"):
        read_judgement(table, tmp_path)
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(UsageError, match=r"none\.parquet does not exist"):
        read_judgement(tmp_path / "none.parquet", first)
    for bad in (tmp_path / "text.parquet", first / "queries.parquet"):
        with pytest.raises(DataError, match="not a table of a teacher's outputs"):
            read_judgement(bad, first)
    whole = pq.read_table(table)
    strange = whole.set_column(0, "item_id", pa.array(["00" * 16] * 20))
    pq.write_table(strange, tmp_path / "strange.parquet")
    with pytest.raises(DataError, match="no row for 20 of the 20 images"):
        refine(small_pool.index, queries, tmp_path / "strange.parquet", first, tmp_path / "out", OPTIONS)
    ragged = whole.set_column(2, "probabilities", pa.array([[0.5, 0.5]] * 20, pa.list_(pa.float32())))
    pq.write_table(ragged.replace_schema_metadata(whole.schema.metadata), tmp_path / "ragged.parquet")
    with pytest.raises(DataError, match="not 3 finite probabilities"):
        read_judgement(tmp_path / "ragged.parquet", first)
    for damage in ({b"random_on_task": b'{"scores": [1.0, "x"]}'}, {b"classes": b"7"}, {b"classes": b"[7]"}):
        facts = {**whole.schema.metadata, **damage}
        pq.write_table(whole.replace_schema_metadata(facts), tmp_path / "words.parquet")
        with pytest.raises(DataError, match=r"words\.parquet is damaged"):
            read_judgement(tmp_path / "words.parquet", first)
    assert not (tmp_path / "out").exists()


def test_a_table_has_a_row_for_every_image(first: Path, table: Path, tmp_path: Path) -> None:
    """It may have more, of other sets that were labelled with this one, and lack those that are cut off."""
    whole, part = pq.read_table(table), tmp_path / "part.parquet"
    pq.write_table(whole.slice(0, 18), part)
    with pytest.raises(DataError, match="no row for 2 of the 20 images") as refused:
        read_judgement(part, first)
    assert "label that transfer set" in str(refused.value.hint)
    other = whole.slice(0, 5).set_column(0, "item_id", pa.array([f"{n:032x}" for n in range(5)]))
    pq.write_table(pa.concat_tables([other, whole, whole]), tmp_path / "more.parquet")
    found, expected = read_judgement(tmp_path / "more.parquet", first), read_judgement(table, first)
    assert (found.ids, found.unjudged) == (expected.ids, 1)
    assert np.array_equal(found.probabilities, expected.probabilities)

    shutil.copytree(first, tmp_path / "cut")
    place = pq.read_table(first / "samples.parquet").to_pylist()[18]
    os.truncate(tmp_path / "cut" / "shards" / place["shard"], place["offset"] + 1)
    assert read_judgement(part, tmp_path / "cut").unjudged == 3


def test_a_table_may_name_the_images_of_a_fetched_set_by_their_bytes(
    first: Path, table: Path, tmp_path: Path
) -> None:
    """As one does that was labelled from the tars alone."""
    samples = pq.read_table(first / "samples.parquet")
    urls = [one[::-1] for one in samples.column("item_id").to_pylist()]
    fetched = samples.append_column("bytes_id", samples.column("item_id"))
    (tmp_path / "set").mkdir()
    pq.write_table(fetched.set_column(0, "item_id", pa.array(urls)), tmp_path / "set" / "samples.parquet")
    found, expected = read_judgement(table, tmp_path / "set"), read_judgement(table, first)
    assert found.ids == tuple(one[::-1] for one in expected.ids) and found.unjudged == 1
    assert np.array_equal(found.probabilities, expected.probabilities)


def test_an_index_that_the_set_is_not_from(
    ready_pool: Any, queries: Path, first: Path, table: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"none of the 19 judged images .* whose ids are of their URLs"):
        refine(ready_pool.index, queries, table, first, tmp_path / "out", OPTIONS, RULE)


def test_on_the_command_line(
    small_pool: Any, queries: Path, first: Path, table: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    given = [
        "refine",
        "--index",
        small_pool.index,
        "--query-dir",
        queries,
        "--table",
        table,
        "--from",
        first,
    ]
    given += [
        "--out",
        tmp_path / "out",
        "--total",
        30,
        "--workers",
        2,
        "--exclude-dir",
        small_pool.pool / "loose",
    ]

    def run(*more: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            run_cli(cli.app, [str(word) for word in [*given, *more]])
        output = capsys.readouterr()
        return int(caught.value.code or 0), output.out, output.err

    code, out, err = run()
    assert code == 0 and "dropped as off task" in out and "quotas: most" in err, err
    code, out, _ = run("--json")
    found = json.loads(out)
    assert code == 0 and found["already_complete"] and found["dropped"] == 3
    wrong = ["--off-task 2", "--drop 1", "--most 0.5", "--uncertain-share -1", "--seed -1"]
    for words in (*wrong, "--drop 0.1 --off-task 0.5"):
        code, _, err = run(*words.split())
        assert code == 2 and words.split()[0] in err, err
