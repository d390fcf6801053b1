"""`curate forget`, `compact`, `verify` and what `info` and `retrieve` say of them."""

import io
import json
import shutil
from pathlib import Path

import pytest

from curate.index.ledger import read_ledger
from transferset.copies import item_id


@pytest.fixture
def own(small_pool, tmp_path) -> Path:
    """A copy of the small index."""
    shutil.copytree(small_pool.index, tmp_path / "index")
    return tmp_path / "index"


def test_forget_lists_what_it_forgot(small_pool, own, curate, monkeypatch):
    ids = [item_id(small_pool.images[name]).hex() for name in ("t/00000", "t/00004")]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(ids)))
    code, out, err = curate("forget", "--index", own, "--ids", "-", "--who", "me", "--why", "they asked")
    assert code == 0, err
    assert ids[0] in out and "Forgotten: 2 items" in out and "curate compact" in err
    assert {(one.who, one.why) for one in read_ledger(own).entries} == {("me", "they asked")}
    _, out, _ = curate("info", "--index", own, "--json")
    assert json.loads(out)["forgotten"] == {"items": 2, "not_purged": 2}
    code, out, _ = curate("compact", "--index", own, "--json")
    assert code == 0 and json.loads(out)["forgotten"] == 3
    _, out, _ = curate("info", "--index", own, "--json")
    assert json.loads(out)["forgotten"] == {"items": 2, "not_purged": 0}


def test_similar_items_are_forgotten_only_after_a_look(small_pool, own, curate, tmp_path):
    (tmp_path / "q.jpg").write_bytes(small_pool.images["t/00000"])
    asked = ["forget", "--index", own, "--similar-to", tmp_path / "q.jpg", "--min-similarity", 0.99]
    code, out, err = curate(*asked)
    assert code == 0 and "Would forget" in out and "run this again with --yes" in err
    assert not read_ledger(own).ids
    code, _, _ = curate(*asked, "--yes")
    assert code == 0 and item_id(small_pool.images["t/00000"]) in read_ledger(own).ids


def test_what_is_wrong_is_a_usage_error(own, curate, tmp_path):
    (tmp_path / "empty").write_text("")
    for arguments in ([], ["--item-id", "x"], ["--ids", tmp_path / "empty"], ["--similar-to", own]):
        code, _, err = curate("forget", "--index", own, *arguments)
        assert code == 2 and err.startswith("error:"), err


def test_verify_exits_with_3_and_names_the_damage(own, curate):
    code, out, _ = curate("verify", "--index", own, "--json")
    assert code == 0 and json.loads(out)["damaged"] == []
    path = own / "parts/000000/items.arrow"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    code, out, err = curate("verify", "--index", own)
    assert code == 3 and "parts/000000/items.arrow" in out
    assert "are damaged" in err and "hint: delete" in err
    code, out, _ = curate("verify", "--index", own, "--json")
    assert code == 3 and len(json.loads(out)["damaged"]) == 1


def test_a_transfer_set_from_before_is_not_taken_for_complete(small_pool, own, query_dir, curate, tmp_path):
    command = ["retrieve", "--index", own, "--query-dir", query_dir, "--out", tmp_path / "out", "--total", 8]
    assert curate(*command)[0] == 0
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["search"]["engine"] == "exact"
    given = next((tmp_path / "out/shards").glob("*.tar")).read_bytes()
    gone = next(one for one in small_pool.images.values() if item_id(one).hex().encode() in given)
    (tmp_path / "gone").write_bytes(gone)
    assert curate("forget", "--index", own, "--image", tmp_path / "gone")[0] == 0
    code, _, err = curate(*command)
    assert code == 2 and "index.forgotten" in err
    command[6] = tmp_path / "again"
    assert curate(*command)[0] == 0
    again = next((tmp_path / "again/shards").glob("*.tar")).read_bytes()
    assert item_id(gone).hex().encode() not in again


def test_retrieve_by_faiss_tells_its_recall(small_pool, own, query_dir, curate, tmp_path):
    code, _, err = curate("build-index", "--pool", small_pool.pool, "--index", own, "--recall", 0.9)
    assert code == 0, err
    command = ["retrieve", "--index", own, "--query-dir", query_dir, "--out", tmp_path / "out", "--total", 8]
    code, _, err = curate(*command, "--engine", "faiss")
    assert code == 0, err
    assert "by the FAISS file: as asked for" in err and "recall@70 on 4 of the queries" in err
    found = json.loads((tmp_path / "out/manifest.json").read_text())["search"]
    assert (found["engine"], found["recall"], found["queries"]) == ("faiss", 1.0, 4)
    _, out, _ = curate("info", "--index", own, "--json")
    assert json.loads(out)["faiss"]["wanted_recall"] == 0.9
