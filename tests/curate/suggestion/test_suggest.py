import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curate import cli
from curate.index.forget import ForgetOptions, forget
from curate.retrieval import RetrieveOptions, retrieve
from curate.selection.select_options import SelectOptions
from curate.suggestion import writing
from curate.suggestion.suggest import SuggestOptions, SuggestReport, suggest
from tests.trees import tree
from transferset.copies import item_id
from transferset.entry_point import run_cli
from transferset.errors import DataError, UsageError
from transferset.labelled import load_labelled
from transferset.writes import read_json, sha256_file

Make = Callable[..., Any]


def _rows(out: Path) -> list[dict[str, str]]:
    with (out / "suggestions.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def run(small_pool: Any, query_dir: Path, tmp_path: Path) -> Callable[..., SuggestReport]:
    """`run(name="out", **options)`: suggestions for the queries in a folder of that name."""

    def make(name: str = "out", **options: Any) -> SuggestReport:
        return suggest(
            small_pool.index,
            query_dir,
            tmp_path / name,
            SuggestOptions(**{"count": 8, "workers": 2} | options),
        )

    return make


def test_the_folder_holds_images_table_page_and_manifest(
    run: Make, small_pool: Any, query_dir: Path, tmp_path: Path
) -> None:
    report = run()
    rows = _rows(tmp_path / "out")
    known = {item_id(data).hex(): data for data in small_pool.images.values()}
    assert len(rows) == len({row["item_id"] for row in rows}) == 8
    for row in rows:
        assert (tmp_path / "out" / row["image"]).read_bytes() == known[row["item_id"]]
        assert row["nearest_class"] in ("red", "blue") and row["label"] == ""
        assert row["nearest_query"].startswith(f"{row['nearest_class']}/")
        assert row["source"] and -1 <= float(row["similarity"]) <= 1
    gains = [float(row["gain"]) for row in rows]
    assert gains[0] == max(gains) > 0
    outcome = report.outcome
    assert (outcome["suggested"], outcome["missing"], outcome["candidates"]) == (8, 0, 35)
    coverage = outcome["coverage"]
    assert coverage["with_suggestions"] > coverage["with_random"] > coverage["queries"]
    files = read_json(tmp_path / "out" / "manifest.json")["files"]
    assert sorted([*files, "manifest.json"]) == sorted(tree(tmp_path / "out"))
    assert all(sha256_file(tmp_path / "out" / name) == checksum for name, checksum in files.items())
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 8 and page.count("data:image/png;base64,") == 1
    assert "Leakage: not checked" in page


def test_filled_in_the_table_is_a_labelled_set(run: Make, tmp_path: Path) -> None:
    run()
    rows = _rows(tmp_path / "out")
    with (tmp_path / "out" / "suggestions.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "label": "red" if place % 2 else "green"} for place, row in enumerate(rows))
    labelled = load_labelled(tmp_path / "out" / "suggestions.csv")
    assert labelled.classes == ("green", "red") and len(labelled.images) == 8
    assert all(image.path.is_file() for image in labelled.images)


def test_it_is_the_same_wherever_and_however_often(
    run: Make, small_pool: Any, query_dir: Path, tmp_path: Path
) -> None:
    run()
    before = tree(tmp_path / "out")
    assert run().already_complete and tree(tmp_path / "out") == before
    for name in ("index", "pool"):
        shutil.copytree(getattr(small_pool, name), tmp_path / "moved" / name)
    roots = {str(small_pool.pool): str(tmp_path / "moved" / "pool")}
    options = SuggestOptions(count=8, workers=1, pool_roots=roots)
    suggest(tmp_path / "moved" / "index", query_dir, tmp_path / "again", options)
    assert tree(tmp_path / "again") == before
    assert all(str(tmp_path).encode() not in data for data in before.values())


def test_neither_queries_nor_excluded_images_nor_forgotten_ones(
    run: Make, small_pool: Any, query_dir: Path, tmp_path: Path, encode: Make
) -> None:
    from transferset.images import decode

    run("first")
    taken = [row["item_id"] for row in _rows(tmp_path / "first")][:4]
    known = {item_id(data).hex(): data for data in small_pool.images.values()}
    (query_dir / "red" / "known").write_bytes(known[taken[0]])
    (query_dir / "red" / "known").rename(query_dir / "red" / "known.jpg")
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "bytes.jpg").write_bytes(known[taken[1]])
    (tmp_path / "val" / "pixels.png").write_bytes(encode(decode(known[taken[2]]), "png", compress_level=1))
    shutil.copytree(small_pool.index, tmp_path / "copy")
    forget(tmp_path / "copy", ForgetOptions(item_ids=[taken[3]]))
    roots = {str(small_pool.pool): str(small_pool.pool)}
    options = SuggestOptions(count=30, exclude_dirs=(tmp_path / "val",), pool_roots=roots)
    suggest(tmp_path / "copy", query_dir, tmp_path / "second", options)
    found = {row["item_id"] for row in _rows(tmp_path / "second")}
    assert len(found) == 30 and not found & set(taken)
    assert "compared with 2 images of val" in (tmp_path / "second" / "report.html").read_text()


def test_a_stopped_run_goes_on_with_what_it_chose(
    run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("whole")
    write, written = writing.write_bytes, 0

    def dying(path: Path, data: bytes) -> None:
        nonlocal written
        written += 1
        if written == 4:
            raise KeyboardInterrupt
        write(path, data)

    monkeypatch.setattr(writing, "write_bytes", dying)
    with pytest.raises(KeyboardInterrupt):
        run(workers=1)
    assert not (tmp_path / "out" / "manifest.json").exists()
    monkeypatch.setattr(writing, "write_bytes", write)
    monkeypatch.setattr("curate.suggestion.suggest._choose", None)
    assert not run(workers=1).already_complete
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_what_was_damaged_is_written_again(run: Make, tmp_path: Path) -> None:
    run()
    before = tree(tmp_path / "out")
    next((tmp_path / "out" / "images").iterdir()).write_bytes(b"x")
    (tmp_path / "out" / "plots" / "coverage.png").unlink()
    assert not run().already_complete
    assert tree(tmp_path / "out") == before


def test_other_folders_are_refused(run: Make, small_pool: Any, query_dir: Path, tmp_path: Path) -> None:
    run()
    with pytest.raises(UsageError, match="count: 8 there, 9 now"):
        run(count=9)
    retrieve(small_pool.index, query_dir, tmp_path / "set", RetrieveOptions(SelectOptions(total=4)))
    with pytest.raises(DataError, match="not the manifest of a set of suggestions"):
        run("set")
    with pytest.raises(DataError, match="not the manifest of a transfer set"):
        retrieve(small_pool.index, query_dir, tmp_path / "out", RetrieveOptions(SelectOptions(total=4)))
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"not empty .*chapter\.txt"):
        run("thesis")
    for out, option in ((small_pool.index / "out", "--index"), (query_dir / "out", "--query-dir")):
        with pytest.raises(UsageError, match=f"lies in {option}"):
            suggest(small_pool.index, query_dir, out, SuggestOptions())


def test_a_pool_with_fewer_is_told(run: Make, tmp_path: Path) -> None:
    outcome = run(count=100).outcome
    assert (outcome["suggested"], outcome["missing"]) == (70, 30)
    assert "30 of 100 are missing" in (tmp_path / "out" / "report.html").read_text()


def test_hostile_names_stay_text(run: Make, query_dir: Path, tmp_path: Path) -> None:
    (query_dir / "red").rename(query_dir / "=HYPERLINK(<i>x)")
    run(count=30)
    classes = {row["nearest_class"] for row in _rows(tmp_path / "out")}
    assert classes == {"blue", "'=HYPERLINK(<i>x)"}, "no spreadsheet takes it for a formula"
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<i>" not in page and "&lt;i&gt;" in page


def test_queries_without_classes_are_enough(small_pool: Any, query_dir: Path, tmp_path: Path) -> None:
    report = suggest(small_pool.index, query_dir / "red", tmp_path / "out", SuggestOptions(count=5))
    assert report.outcome["nearest_classes"] == [{"label": None, "suggested": 5}]
    assert {row["nearest_class"] for row in _rows(tmp_path / "out")} == {""}


@pytest.mark.parametrize("changes", [{"count": 0}, {"count": 1001}, {"workers": 0}])
def test_options_that_make_no_sense(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        SuggestOptions(**changes)


def test_the_command_prints_a_table_or_json(
    small_pool: Any, query_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["suggest", "--index", str(small_pool.index), "--query-dir", str(query_dir)]
    given += ["--out", str(tmp_path / "out"), "--count", "6"]
    codes, outputs = [], []
    for extra in ([], ["--json"], ["--seed", "1"]):
        with pytest.raises(SystemExit) as caught:
            run_cli(cli.app, [*given, *extra])
        codes.append(int(caught.value.code or 0))
        outputs.append(capsys.readouterr())
    assert codes == [0, 0, 2]
    assert (
        "6 of 35 images near the queries" in outputs[0].out and "fill in the column label" in outputs[0].err
    )
    found = json.loads(outputs[1].out)
    assert (found["suggested"], found["already_complete"]) == (6, True)
    assert "seed: 0 there, 1 now" in outputs[2].err
