"""`curate retrieve`: exit codes, and what goes to stdout and stderr."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def retrieve(small_pool: Any, query_dir: Path, tmp_path: Path, curate: Run) -> Run:
    """`retrieve(*arguments)`: exit code, stdout and stderr; queries and --out as given by default."""

    def run(*arguments: object) -> tuple[int, str, str]:
        given = ["retrieve", *map(str, arguments)]
        for name, value in (
            ("--index", small_pool.index),
            ("--query-dir", query_dir),
            ("--out", tmp_path / "out"),
        ):
            if name not in given:
                given += [name, str(value)]
        return curate(*given)

    return run


def test_it_tells_what_was_retrieved_and_what_was_not_checked(retrieve: Run, tmp_path: Path) -> None:
    code, out, err = retrieve("--total", 12)
    assert code == 0, err
    assert "12 of 12 images for 4 queries" in out and "6 to 6 (2 classes)" in out
    assert "queries closed at similarity" in err
    assert "leakage: not checked" in err and "report.html" in err


def test_json_is_one_object_on_stdout(retrieve: Run) -> None:
    code, out, _ = retrieve("--per-query", 3, "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["retrieved"], found["requested"], found["missing"]) == (12, 12, 0)
    assert found["guard"]["checked"] == [] and found["already_complete"] is False
    assert json.loads(retrieve("--per-query", 3, "--json")[1])["already_complete"] is True


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "neither of --total and --per-query"),
        (("--total", 3, "--per-query", 1), "both of --total and --per-query"),
        (("--total", 0), "--total"),
        (("--total", 3, "--strategy", "best"), "--strategy must be one of"),
        (("--total", 3, "--shortfall", "ignore"), "--shortfall must be one of"),
        (("--total", 3, "--min-similarity", 2), "--min-similarity"),
        (("--total", 7, "--include-queries"), "the smallest --total is 8"),
        (("--total", 3, "--exclude", "x"), "No such option"),
        (("--total", 3, "--exclude-dir", "no-such-folder"), "neither a folder nor"),
        (("--total", 3, "--query-dir", "no-such-folder"), "does not exist"),
        (("--total", 3, "--pool-root", "nonsense"), "OLD=NEW"),
    ],
)
def test_usage_errors_exit_with_2(retrieve: Run, arguments: tuple[object, ...], told: str) -> None:
    begin = time.perf_counter()
    code, out, err = retrieve(*arguments)
    assert (code, out) == (2, "")
    assert told in err
    assert time.perf_counter() - begin < 5


def test_other_arguments_for_the_same_folder_exit_with_2(retrieve: Run) -> None:
    assert retrieve("--total", 12)[0] == 0
    code, _, err = retrieve("--total", 16)
    assert code == 2 and "selection.total: 12 there, 16 now" in err


def test_bad_data_exits_with_3(retrieve: Run, query_dir: Path, tmp_path: Path) -> None:
    code, _, err = retrieve("--total", 3, "--index", tmp_path)
    assert code == 3 and "is not an index" in err
    assert retrieve("--total", 500, "--shortfall", "fail")[0] == 3
    (query_dir / "green").mkdir()
    (query_dir / "green" / "x.jpg").write_bytes(b"no")
    code, _, err = retrieve("--total", 3)
    assert code == 3 and "class green" in err
    (query_dir / "green" / "x.jpg").unlink()
    code, _, err = retrieve("--total", 3)
    assert code == 3 and "green" in err


def test_an_index_of_another_encoder_is_told(retrieve: Run, small_pool: Any, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(small_pool.index, tmp_path / "other")
    plan = tmp_path / "other" / "plan.json"
    old = json.loads(plan.read_text())["encoder"]["fingerprint"]
    text = plan.read_text().replace(old, "0" * 64)
    plan.write_text(text)
    manifest = tmp_path / "other" / "manifest.json"
    from curate.index.plan import read_plan

    changed, _ = read_plan(tmp_path / "other")
    content = json.loads(manifest.read_text())
    content["plan_fingerprint"] = changed.fingerprint
    manifest.write_text(json.dumps(content))
    code, _, err = retrieve("--total", 3, "--index", tmp_path / "other")
    assert code == 2
    assert "not the one that the index was built with" in err


def test_options_of_strategies_and_filters_reach_the_library(retrieve: Run) -> None:
    code, out, err = retrieve(
        "--total", 8, "--strategy", "diverse", "--diversity", 0.5, "--crops", "--class-blend", 0.2, "--json",
        "--min-side", 40, "--max-aspect", 1.5, "--caption-contains", "tint", "--caption-matches", "[0-9]$",
        "--where", "license == CC0", "--where", "key ~ 0000",
    )  # fmt: skip
    assert code == 0, err
    found = json.loads(out)
    assert (found["retrieved"], found["missing"]) == (8, 0)
    manifest = json.loads(Path(found["manifest"]).read_text())
    assert manifest["arguments"]["selection"]["tuning"] == {
        "crops": True, "class_blend": 0.2, "diversity": 0.5,
    }  # fmt: skip
    assert manifest["arguments"]["selection"]["filters"] == {
        "min_side": 40,
        "max_aspect": 1.5,
        "caption_contains": ["tint"],
        "caption_matches": "[0-9]$",
        "where": ["license == CC0", "key ~ 0000"],
    }
    assert found["filtered"] == manifest["outcome"]["filtered"] > 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--where", "licens == CC0"), "no image has 'licens'"),
        (("--where", "license"), "not a condition"),
        (("--caption-matches", "(x"), "not a regular expression"),
        (("--strategy", "text"), "no text tower"),
        (("--strategy", "text", "--class-names", "a,a"), "twice"),
        (("--diversity", 0.9), "has no meaning with --strategy query-balanced"),
        (("--templates", "/no/such/file"), "not a file"),
        (("--class-blend", 2), "--class-blend"),
    ],
)
def test_what_strategies_and_filters_refuse(retrieve: Run, arguments: tuple[object, ...], told: str) -> None:
    code, out, err = retrieve("--total", 4, *arguments)
    assert code == 2 and told in err and not out


def test_classes_that_fall_short_are_named(retrieve: Run) -> None:
    code, out, err = retrieve(
        "--total", 60, "--where", "license == CC0", "--caption-matches", "tint</b> [0-9]$"
    )
    assert code == 0, err
    assert "in 2 classes" in out and "filtered out" in out
    assert "by class: " in err and "blue" in err and "red" in err
