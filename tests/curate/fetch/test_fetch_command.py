"""`curate fetch` as a command."""

import json
from pathlib import Path

import pytest

from curate import cli
from curate.retrieval import RetrieveOptions, retrieve
from curate.selection.select_options import SelectOptions
from transferset.entry_point import run_cli


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        run_cli(cli.app, ["fetch", *map(str, arguments)])
    return int(caught.value.code or 0)


@pytest.fixture
def unfetched(url_pool, query_dir, tmp_path) -> Path:
    retrieve(url_pool.index, query_dir, tmp_path / "set", RetrieveOptions(SelectOptions(total=8)))
    return tmp_path / "set"


def test_it_tells_and_exits(url_pool, unfetched, capsys) -> None:
    common = ("--transfer-set", unfetched, "--index", url_pool.index, "--retries", 0)
    assert run(*common) == 3
    told = capsys.readouterr().err
    assert "8 address refused" in told and "--allow-private-hosts" in told

    assert run(*common, "--allow-private-hosts") == 0
    told = capsys.readouterr()
    assert "8 of 8 images" in told.out and "distill train" in told.err
    assert "could not be determined" in told.err and "not checked: no --exclude-dir" in told.err

    assert run(*common, "--allow-private-hosts", "--json") == 0
    told = capsys.readouterr()
    answer = json.loads(told.out)
    assert answer["already_complete"] and answer["fetched"] == answer["chosen"] == 8
    assert "already complete" in told.err
    assert run(*common, "--allow-private-hosts", "--retry-failed") == 0


@pytest.mark.parametrize(
    "wrong", [("--timeout", 0), ("--min-agreement", 2), ("--user-agent-token", "a(b"), ("--threads", 0)]
)
def test_what_is_asked_wrongly(wrong: tuple[str, object], url_pool, unfetched, capsys) -> None:
    assert run("--transfer-set", unfetched, "--index", url_pool.index, *wrong) == 2
    assert wrong[0] in capsys.readouterr().err
