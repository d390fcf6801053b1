"""`curate`: exit codes, what goes to stdout and stderr, contributed commands."""

import importlib.metadata
import json
import time
from pathlib import Path

import pytest

from curate import cli

TINY = [
    "--encoder",
    "timm:test_efficientnet@none",
    "--image-size",
    "32",
    "--runtime",
    "eager",
    "--threads",
    "1",
]

CONTRIBUTED = """
import typer


def hello(name: str = typer.Option("you")) -> None:
    "Say hello."
    print("hello", name)
"""


@pytest.fixture
def pool(tmp_path, picture, encode) -> Path:
    (tmp_path / "pool").mkdir()
    for number in range(3):
        (tmp_path / f"pool/{number}.jpg").write_bytes(encode(picture(seed=number)))
    (tmp_path / "pool/[red]x.jpg").write_bytes(b"x")
    return tmp_path / "pool"


def test_build_and_info_tell_what_there_is(pool, tmp_path, curate):
    index = tmp_path / "index"
    code, out, err = curate("build-index", "--pool", pool, "--index", index, *TINY)
    assert code == 0, err
    assert "timm:test_efficientnet@none on eager f32" in out
    assert "3 in 1 parts, 3 distinct" in out
    assert "unreadable: not an image" in out
    assert f"next: curate retrieve --index {index}" in err
    assert "errors.parquet" in err
    code, out, err = curate("info", "--index", index)
    assert code == 0, err
    assert "not an image 1" in out
    assert str(pool) in out


def test_json_is_one_object_on_stdout(pool, tmp_path, curate):
    code, out, err = curate("build-index", "--pool", pool, "--index", tmp_path / "index", *TINY, "--json")
    assert code == 0, err
    report = json.loads(out)
    assert (report["images"], report["errors"], report["new_parts"]) == (3, {"not an image": 1}, 1)
    code, out, _ = curate("info", "--index", tmp_path / "index", "--json")
    described = json.loads(out)
    assert code == 0
    assert (described["images"], described["dimension"], described["unfinished_parts"]) == (3, 256, 0)
    assert described["caches"] == {"ids": True, "faiss": True}


def test_damaged_tars_are_told_by_name_and_by_info(tmp_path, picture, encode, write_tar, curate):
    folder = tmp_path / "pool"
    tar = write_tar(folder / "cut\n<b>.tar", {f"{n}.jpg": encode(picture(seed=n)) for n in range(4)})
    tar.write_bytes(tar.read_bytes()[: 3 * tar.stat().st_size // 10])
    (folder / "no.tar").write_bytes(b"x" * 600)
    code, _, err = curate("build-index", "--pool", folder, "--index", tmp_path / "index", *TINY)
    assert code == 0, err
    assert f"note: {folder}/cut\\n<b>.tar: " in err and "intact images in it are kept" in err
    (none,) = [line for line in err.splitlines() if "no.tar" in line]
    assert "kept" not in none
    described = json.loads(curate("info", "--index", tmp_path / "index", "--json")[1])
    assert [Path(one["path"]).name for one in described["damaged_tars"]] == ["cut\n<b>.tar", "no.tar"]
    assert "cut off" in described["damaged_tars"][0]["reason"]
    assert "cut\\n<b>.tar" in curate("info", "--index", tmp_path / "index")[1]


def test_an_index_of_a_newer_format_is_left_alone(pool, tmp_path, curate):
    index = tmp_path / "index"
    curate("build-index", "--pool", pool, "--index", index, *TINY)
    for name in ("manifest.json", "plan.json", "parts/000000/done.json"):
        text = (index / name).read_text()
        (index / name).write_text(text.replace('"format_version": 1', '"format_version": 2'))
        code, _, err = curate("build-index", "--pool", pool, "--index", index, *TINY)
        assert code == 3 and f"{name}: format_version 2" in err
        (index / name).write_text(text)


def test_too_many_errors_are_told_after_the_summary(pool, tmp_path, curate):
    arguments = ["build-index", "--pool", pool, "--index", tmp_path / "index", *TINY]
    code, out, err = curate(*arguments, "--max-error-rate", "0.2", "--json")
    assert code == 3
    assert json.loads(out)["error_rate"] == 0.25
    assert "25.00% of the images can't be read, --max-error-rate allows 20.00%" in err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["info", "--index", "nowhere"], 3, "nowhere is not an index"),
        (["info"], 2, "--index"),
        (["build-index", "--pool", "nowhere", "--index", "i"], 2, "--pool nowhere does not exist"),
        (["build-index", "--pool", ".", "--index", "i", "--encoder", "resnet"], 2, "model spec 'resnet'"),
        (["build-index", "--pool", ".", "--index", "i", "--batch-size", "0"], 2, "batch-size"),
        (["build-index", "--pool", ".", "--index", "i", "--batchsize", "3"], 2, "--batchsize"),
        (["build-index", "--pool", "empty", "--index", "i"], 3, "no image, tar or table in empty"),
        (["build-indx"], 2, "build-indx"),
    ],
)
def test_errors_say_what_and_end_with_their_code(tmp_path, curate, monkeypatch, arguments, code, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.jpg").write_bytes(b"x")
    ended, out, err = curate(*arguments)
    assert (ended, out) == (code, "")
    assert told in err
    assert not (tmp_path / "i").exists()


def test_commands_of_other_distributions_appear_and_load_when_asked_for(monkeypatch, curate, tmp_path):
    (tmp_path / "contributed.py").write_text(CONTRIBUTED)
    monkeypatch.syspath_prepend(tmp_path)
    points = importlib.metadata.EntryPoints(
        [
            importlib.metadata.EntryPoint("hello", "contributed:hello", cli.COMMANDS_GROUP),
            importlib.metadata.EntryPoint("info", "contributed:hello", cli.COMMANDS_GROUP),
        ]
    )
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: points)
    assert "Say hello." in curate("--help")[1]
    assert curate("hello", "--name", "world")[1] == "hello world\n"
    code, _, err = curate("hello", "--nme", "x")
    assert code == 2
    assert "--nme" in err
    assert "Describe an index" in curate("info", "--help")[1]


def test_help_and_usage_errors_need_no_heavy_library(run_python):
    code = (
        "import sys\nfrom curate import cli\nfrom transferset.entry_point import run_cli\n"
        "try:\n    run_cli(cli.app, sys.argv[1:])\nfinally:\n"
        "    print(sorted({'torch', 'faiss', 'open_clip', 'timm', 'openvino', 'pandas'} & set(sys.modules)))"
    )
    for arguments in (["--help"], ["build-index", "--help"], ["info", "--index", "nowhere"], ["build-index"]):
        start = time.process_time()
        done = run_python(["-c", code, *arguments])
        assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr
        assert time.process_time() - start < 1
