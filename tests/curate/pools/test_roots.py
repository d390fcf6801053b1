from pathlib import Path

import pytest

from curate.pools import Roots, Source, parse_moved
from curate.pools.roots import as_pools
from transferset.errors import UsageError


@pytest.fixture
def recorded(tmp_path):
    """What plan.json says about a pool beside its index."""
    (tmp_path / "a/pool").mkdir(parents=True)
    roots = Roots(tmp_path / "a/index")
    roots.place(str(tmp_path / "a/pool"))
    return roots.to_dicts()


def located(entries, index: Path, moved=None) -> str:
    return str(Roots.from_dicts(index, entries, moved).locate(Source(0, "x.tar", 1, 1)))


def test_a_root_is_found_where_it_was(tmp_path, recorded):
    assert recorded == [{"path": str(tmp_path / "a/pool"), "relative": "../pool"}]
    assert located(recorded, tmp_path / "elsewhere") == str(tmp_path / "a/pool/x.tar")


def test_a_pool_that_moved_with_its_index_is_found(tmp_path, recorded):
    (tmp_path / "a").rename(tmp_path / "b")
    assert located(recorded, tmp_path / "b/index") == str(tmp_path / "b/pool/x.tar")
    assert Roots.from_dicts(tmp_path / "b/index", recorded).to_dicts()[0]["path"] == str(tmp_path / "b/pool")


def test_a_remapped_root_or_one_below_it(tmp_path, recorded):
    old, new = str(tmp_path / "a/pool"), str(tmp_path / "new")
    assert located(recorded, tmp_path / "a/index", {old: new}) == f"{new}/x.tar"
    assert located(recorded, tmp_path / "a/index", {str(tmp_path / "a"): new}) == f"{new}/pool/x.tar"
    assert located(recorded, tmp_path / "a/index", {old + "2": new}) == f"{old}/x.tar"


def test_a_lost_pool_is_named_as_it_was(tmp_path, recorded):
    (tmp_path / "a/pool").rmdir()
    assert located(recorded, tmp_path / "a/index") == str(tmp_path / "a/pool/x.tar")


def test_option_texts():
    assert parse_moved(["/a=/b", "/c=/d=e"]) == {"/a": "/b", "/c": "/d=e"}
    with pytest.raises(UsageError, match="OLD=NEW"):
        parse_moved(["/a"])


def test_remote_roots_keep_their_url_and_can_be_moved(tmp_path):
    roots = Roots(tmp_path / "index")
    assert roots.place("s3://bucket/a") == (0, "")
    assert roots.place("s3://bucket/a/b") == (0, "b")
    assert str(roots.join(0, "x/1.tar")) == "s3://bucket/a/x/1.tar"
    entries = roots.to_dicts()
    assert entries == [{"path": "s3://bucket/a", "relative": ""}]
    moved = Roots.from_dicts(tmp_path / "index", entries, {"s3://bucket/": "https://mirror.example/b"})
    assert str(moved.join(0, "1.tar")) == "https://mirror.example/b/a/1.tar"
    near = Roots.from_dicts(tmp_path / "index", entries, {"s3://bucket/a": str(tmp_path)})
    assert near.join(0, "1.tar") == tmp_path / "1.tar"


def test_ranges_are_written_out(tmp_path):
    assert as_pools([str(tmp_path / "{08..11}.tar"), "s3://b/{1..2}.tar", "file:///data"]) == [
        *(tmp_path / f"{number}.tar" for number in ("08", "09", "10", "11")),
        "s3://b/{1..2}.tar",
        Path("/data"),
    ]
    (tmp_path / "{a,b}").mkdir()
    assert as_pools([tmp_path / "{a,b}"]) == [tmp_path / "{a,b}"]
    with pytest.raises(UsageError, match="--pool"):
        as_pools(["/data/{1..2.tar"])
