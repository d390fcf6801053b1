import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.index.build import build_index
from curate.index.options import BuildOptions
from curate.pools import Roots, list_pools
from curate.retrieval import RetrieveOptions, retrieve
from curate.selection.select_options import SelectOptions
from transferset.errors import UsageError


def fill(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def listed(pools: list[Path], index: Path, roots: Roots | None = None) -> list[tuple[int, str]]:
    found = list_pools(pools, roots if roots is not None else Roots(index))
    return [(source.root, source.path) for source in found.sources]


def test_a_folder_gives_tars_then_images_by_name(tmp_path):
    fill(
        tmp_path / "pool",
        "b.tar",
        "a/z.JPG",
        "a/b.webp",
        "c.png",
        "a.tar",
        "d/e/f.jpeg",
        "notes.txt",
        "x.gif",
    )
    assert listed([tmp_path / "pool"], tmp_path / "index") == [
        (0, "a.tar"), (0, "b.tar"), (0, "a/b.webp"), (0, "a/z.JPG"), (0, "c.png"), (0, "d/e/f.jpeg"),
    ]  # fmt: skip


def test_hidden_names_and_the_index_itself_are_passed_over(tmp_path):
    fill(tmp_path, "a.jpg", ".hidden.jpg", "._a.jpg", ".cache/b.jpg", "index/faces/c.jpg")
    assert listed([tmp_path], tmp_path / "index") == [(0, "a.jpg")]


def test_a_tar_a_glob_and_overlapping_pools_name_each_source_once(tmp_path):
    fill(tmp_path, "pool/a.tar", "pool/b.tar", "pool/c.jpg")
    pool = tmp_path / "pool"
    assert listed([pool / "b.tar"], tmp_path / "index") == [(0, "b.tar")]
    assert listed([pool / "*.tar"], tmp_path / "index") == [(0, "a.tar"), (0, "b.tar")]
    assert listed([pool / "a.tar", pool, tmp_path], tmp_path / "index") == [
        (0, "a.tar"),
        (0, "b.tar"),
        (0, "c.jpg"),
    ]


def test_pools_below_a_known_root_belong_to_it(tmp_path):
    fill(tmp_path, "pool/sub/a.jpg")
    roots = Roots(tmp_path / "index")
    assert listed([tmp_path / "pool"], tmp_path / "index", roots) == [(0, "sub/a.jpg")]
    assert listed([tmp_path / "pool" / "sub"], tmp_path / "index", roots) == [(0, "sub/a.jpg")]
    assert len(roots) == 1


def test_links_are_followed_but_not_in_circles(tmp_path):
    fill(tmp_path, "pool/a.jpg", "elsewhere/b.jpg")
    (tmp_path / "pool/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "pool/circle").symlink_to(tmp_path / "pool")
    (tmp_path / "pool/broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    found = list_pools([tmp_path / "pool"], Roots(tmp_path / "index"))
    assert [source.path for source in found.sources] == ["a.jpg", "link/b.jpg"]
    assert [(Path(path).name, reason) for path, reason in found.skipped] == [
        ("broken.jpg", "cannot be read: No such file or directory")
    ]


def test_what_cannot_be_used_is_told(tmp_path):
    fill(tmp_path, "pool/a.tar.gz", "pool/b.jpg")
    (tmp_path / "pool" / os.fsdecode(b"\xff.jpg")).write_bytes(b"x")
    found = list_pools([tmp_path / "pool"], Roots(tmp_path / "index"))
    assert [source.path for source in found.sources] == ["b.jpg"]
    assert {reason for _, reason in found.skipped} == {
        "compressed archive: unpack it",
        "the name is not UTF-8",
    }


def test_links_to_themselves_devices_and_pipes_are_told(tmp_path):
    fill(tmp_path, "pool/b.jpg", "pool/d/b.jpg")
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pool/d/manifest.json")
    (tmp_path / "pool/loop").symlink_to("loop")
    ends = {"zero.jpg": "/dev/zero", "zero.tar": "/dev/zero", "pipe.png": "pipe", "pipe.parquet": "pipe"}
    for name, end in ends.items():
        (tmp_path / "pool" / name).symlink_to(tmp_path / end)
    paths = [str(tmp_path / "pool" / name) for name in ("zero.jpg", "b.jpg")] + [str(tmp_path / "pipe.jpg")]
    (tmp_path / "pipe.jpg").symlink_to("pipe")
    pq.write_table(pa.table({"path": paths}), tmp_path / "pool/list.parquet")
    found = list_pools([tmp_path / "pool"], Roots(tmp_path / "index"))
    assert [source.path for source in found.sources] == ["b.jpg", "d/b.jpg"]
    reasons = {Path(path).name: reason for path, reason in found.skipped}
    assert reasons.pop("loop") == "cannot be read: Too many levels of symbolic links"
    assert reasons == dict.fromkeys([*ends, "pipe.jpg"], "not a regular file")


def test_a_pool_that_is_not_there_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        listed([tmp_path / "pool"], tmp_path / "index")
    with pytest.raises(UsageError, match="matches nothing"):
        listed([tmp_path / "*.tar"], tmp_path / "index")


def test_what_may_not_be_read_is_left_out_so_that_the_next_build_tries_again(tmp_path, monkeypatch):
    fill(tmp_path, "a.tar", "b.tar", "c.jpg")
    access = os.access  # root may read everything, whatever the mode
    monkeypatch.setattr(os, "access", lambda path, mode: access(path, mode) and not path.endswith("b.tar"))
    found = list_pools([tmp_path], Roots(tmp_path / "index"))
    assert [source.path for source in found.sources] == ["a.tar", "c.jpg"]
    assert found.skipped == [(f"{tmp_path}/b.tar", "cannot be read: Permission denied")]


def test_transfer_sets_below_a_pool_are_left_out_and_that_is_told(tmp_path):
    fill(tmp_path, "a.jpg", "set/shards/000000.tar", "begun/shards/000000.tar", "begun/.plan/arguments.json")
    fill(tmp_path, "wids/b.tar", "broken/c.jpg", "broken/manifest.json")
    ours = {"kind": "transfer set", "transferset_version": "0", "arguments": {}}
    (tmp_path / "set/manifest.json").write_text(json.dumps(ours))
    (tmp_path / "wids/manifest.json").write_text(json.dumps({"kind": "wids", "shards": []}))
    found = list_pools([tmp_path], Roots(tmp_path / "index"))
    assert [source.path for source in found.sources] == ["wids/b.tar", "a.jpg", "broken/c.jpg"]
    assert [(Path(path).name, "name it as --pool" in why) for path, why in found.skipped] == [
        ("begun", True),
        ("set", True),
    ]
    assert listed([tmp_path / "set"], tmp_path / "index") == [(0, "shards/000000.tar")]


def test_what_retrieve_writes_into_its_pool_is_not_indexed(small_pool, query_dir, tmp_path):
    pool = tmp_path / "pool"
    shutil.copytree(small_pool.pool, pool)
    build_index(
        [pool],
        tmp_path / "index",
        BuildOptions(encoder="timm:test_efficientnet@none", image_size=32, faiss=False),
    )
    options = RetrieveOptions(SelectOptions(total=4), workers=2, near=False)
    retrieve(tmp_path / "index", query_dir, pool / "out", options)
    again = build_index([pool], tmp_path / "index", BuildOptions())
    assert (again.new_images, again.gone) == (0, [])
    assert [(path, reason[:14]) for path, reason in again.skipped] == [(str(pool / "out"), "a transfer set")]
