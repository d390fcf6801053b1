"""Pools on other machines: a real HTTP server on this one, and memory://."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.index.build import build_index
from curate.index.compact import compact
from curate.index.index import open_index
from curate.index.info import info
from curate.pools import Roots, list_pools, remote
from curate.pools.remote import RangeReader, RemotePath, is_remote, normal
from curate.pools.remote_stamp import stamp
from tests.curate.pools.built import OPTIONS, items_of
from transferset.errors import InterruptedRun, UsageError


@pytest.fixture
def fill(
    picture: Callable[..., np.ndarray], encode: Callable[..., bytes], write_tar: Callable[..., Path]
) -> Any:
    """`fill(folder)`: two tars of five images each, one with captions in a sidecar table, one with texts."""

    def make(folder: Path) -> dict[str, bytes]:
        images = {f"{n:05d}": encode(picture(60, 40, seed=n)) for n in range(10)}
        names = list(images)
        write_tar(folder / "shard-00000.tar", {f"{key}.jpg": images[key] for key in names[:5]})
        members = {}
        for key in names[5:]:
            members |= {f"{key}.txt": f"text {key}".encode(), f"{key}.jpg": images[key]}
        write_tar(folder / "shard-00001.tar", members)
        about = {"key": names[:5], "caption": [f"table {key}" for key in names[:5]]}
        pq.write_table(pa.table(about), folder / "shard-00000.parquet")
        return images

    return make


@pytest.fixture
def memory() -> Any:
    """fsspec's memory file system, emptied."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    yield fs
    fs.store.clear()


def test_tars_over_http(served, fill, tmp_path):
    images = fill(served.folder)
    pool = served.url + "/shard-{00000..00001}.tar"
    report = build_index([pool], tmp_path / "index", OPTIONS)
    assert (report.images, report.parts, report.skipped) == (10, 1, [])
    items = items_of(tmp_path / "index")
    assert [item.key for item in items] == sorted(images)
    assert [item.caption for item in items] == [f"table {n:05d}" for n in range(5)] + [
        f"text {n:05d}" for n in range(5, 10)
    ]
    assert {item.source for item in items} == {"shard-00000.tar", "shard-00001.tar"}
    ranges = [asked for method, path, asked in served.requests if method == "GET" and "tar" in path]
    assert ranges and None not in ranges
    index = open_index(tmp_path / "index")
    served.requests.clear()
    assert index.read_bytes(items[7]) == images["00007"]
    start = items[7].offset
    assert ("GET", "/shard-00001.tar", f"bytes={start}-{start + items[7].size - 1}") in served.requests
    plan = json.loads((tmp_path / "index/plan.json").read_text())
    assert plan["inputs"] == [{"path": served.url, "relative": ""}]
    assert info(tmp_path / "index")["pools"] == [{"path": served.url, "found": None}]


def test_the_embeddings_are_those_of_the_local_files(served, fill, tmp_path):
    fill(served.folder)
    build_index([served.url + "/shard-{00000..00001}.tar"], tmp_path / "far", OPTIONS)
    build_index([served.folder], tmp_path / "near", OPTIONS)
    rows = [open_index(tmp_path / name).embeddings(0) for name in ("far", "near")]
    np.testing.assert_array_equal(*rows)


def test_running_again_reads_nothing_and_adds_what_is_new(served, fill, tmp_path, write_tar, picture, encode):
    fill(served.folder)
    build_index([served.url + "/shard-00000.tar"], tmp_path / "index", OPTIONS)
    served.requests.clear()
    report = build_index([served.url + "/shard-00000.tar"], tmp_path / "index", OPTIONS)
    assert (report.new_images, report.changed, report.gone) == (0, [], [])
    assert {method for method, _, _ in served.requests} == {"HEAD"}
    report = build_index([served.url + "/shard-{00000..00001}.tar"], tmp_path / "index", OPTIONS)
    assert (report.new_images, report.images) == (5, 10)
    write_tar(served.folder / "shard-00000.tar", {"n.jpg": encode(picture(50, 50, seed=77))})
    report = build_index([served.url + "/shard-{00000..00001}.tar"], tmp_path / "index", OPTIONS)
    assert (report.new_images, report.changed) == (1, [served.url + "/shard-00000.tar"])
    assert compact(tmp_path / "index").images == 6


def test_failures_are_tried_again(served, fill, tmp_path):
    fill(served.folder)
    failed = set()

    def once(*request: object) -> int | None:
        request = served.requests[request[-1] - 1]
        return None if request in failed else failed.add(request) or 503

    served.fail = once
    report = build_index([served.url + "/shard-{00000..00001}.tar"], tmp_path / "index", OPTIONS)
    assert (report.images, report.error_count) == (10, 0)
    assert failed == set(served.requests), "each request failed once"


def test_a_server_that_goes_away_stops_the_build_which_goes_on_later(served, fill, tmp_path, monkeypatch):
    from curate.pools import partition

    monkeypatch.setattr(partition, "TAR_IMAGES", 1)
    fill(served.folder)
    pool = served.url + "/shard-{00000..00001}.tar"
    build_index([pool], tmp_path / "whole", OPTIONS)
    served.fail = lambda method, path, _: 502 if method == "GET" and path == "/shard-00001.tar" else None
    with pytest.raises(InterruptedRun, match=r"shard-00001\.tar cannot be read.*502") as caught:
        build_index([pool], tmp_path / "index", OPTIONS)
    assert caught.value.exit_code == 75 and "run the same command" in (caught.value.hint or "")
    assert [path.name for path in (tmp_path / "index/parts").iterdir()] == ["000000"]
    served.fail = lambda method, path, _: 404 if method == "GET" and path == "/shard-00001.tar" else None
    with pytest.raises(InterruptedRun):
        build_index([pool], tmp_path / "index", OPTIONS)
    served.fail = None
    assert build_index([pool], tmp_path / "index", OPTIONS).new_parts == 1
    for number in range(2):
        for name in ("embeddings.npy", "items.arrow", "done.json"):
            place = f"parts/{number:06d}/{name}"
            assert (tmp_path / "index" / place).read_bytes() == (tmp_path / "whole" / place).read_bytes()


def test_what_the_server_cannot_do_is_said(served, fill, tmp_path, monkeypatch):
    fill(served.folder)
    for pool, told in (
        (served.url + "/lost.tar", "does not exist"),
        (served.url + "/{lost.tar", "does not exist|[Bb]rac"),
    ):
        with pytest.raises(UsageError, match=told):
            build_index([pool], tmp_path / "index", OPTIONS)
    served.fail = lambda *_: 403
    with pytest.raises(UsageError, match="refuses"):
        build_index([served.url + "/shard-00000.tar"], tmp_path / "index", OPTIONS)
    served.fail, served.ranges = None, False
    monkeypatch.setattr(remote, "BLOCK_BYTES", 1_000)
    with pytest.raises(UsageError, match="does not answer range requests"):
        build_index([served.url + "/shard-00000.tar"], tmp_path / "index", OPTIONS)


def test_a_folder_on_the_web_is_listed(served, fill, tmp_path):
    fill(served.folder / "deep")
    found = list_pools([served.url + "/deep/"], Roots(tmp_path / "index"))
    assert [source.path for source in found.sources] == ["shard-00000.tar", "shard-00001.tar"]
    assert found.skipped == []
    assert all(source.size and source.mtime_ns for source in found.sources)


def test_loose_files_and_tables_where_the_file_system_lists(memory, tmp_path, picture, encode):
    images = {f"{n}": encode(picture(50, 40, seed=n)) for n in range(6)}
    for key in "012":
        memory.pipe_file(f"/bucket/a/{key}.jpg", images[key])
    memory.pipe_file("/bucket/a/0.json", b'{"caption": "zero"}')
    memory.pipe_file("/bucket/a/.hidden.jpg", images["0"])
    memory.pipe_file("/bucket/notes.txt", b"x")
    memory.pipe_file("/bucket/old.tar.gz", b"x")
    pq.write_table(pa.table({"bytes": [images[key] for key in "345"]}), tmp_path / "t.parquet")
    memory.pipe_file("/bucket/t.parquet", (tmp_path / "t.parquet").read_bytes())
    report = build_index(["memory://bucket"], tmp_path / "index", OPTIONS)
    assert (report.images, report.parts) == (6, 2)
    assert [reason for _, reason in report.skipped] == ["compressed archive: unpack it"]
    index = open_index(tmp_path / "index")
    items = items_of(tmp_path / "index")
    assert {item.path for item in items} == {None, "a/0.jpg", "a/1.jpg", "a/2.jpg"}
    assert [item.caption for item in items if item.path == "a/0.jpg"] == ["zero"]
    assert {index.read_bytes(item) for item in items} == set(images.values())
    assert build_index(["memory://bucket/"], tmp_path / "index", OPTIONS).new_images == 0
    memory.rm_file("/bucket/a/1.jpg")
    report = build_index(["memory://bucket/"], tmp_path / "index", OPTIONS)
    assert report.gone == ["memory:///bucket/a/1.jpg"]
    assert compact(tmp_path / "index").images == 5


def test_globs_and_local_pools_together(memory, tmp_path, fill):
    images = fill(tmp_path / "local")
    for name in ("shard-00000.tar", "shard-00001.tar", "shard-00000.parquet"):
        memory.pipe_file(f"/b/{name}", (tmp_path / "local" / name).read_bytes())
    report = build_index(["memory://b/shard-*.tar", str(tmp_path / "local")], tmp_path / "index", OPTIONS)
    assert (report.images, report.distinct) == (20, len(images))
    with pytest.raises(UsageError, match="matches, nothing"):
        build_index(["memory://b/*.tgz"], tmp_path / "index", OPTIONS)


def test_remote_ready_embeddings_are_refused(memory, tmp_path):
    memory.pipe_file("/laion/img_emb/img_emb_0.npy", b"x")
    memory.pipe_file("/laion/metadata/metadata_0.parquet", b"x")
    with pytest.raises(UsageError, match="read from local disks only"):
        build_index(["memory://laion"], tmp_path / "index", OPTIONS)


def test_a_missing_package_is_named(tmp_path):
    pytest.importorskip("fsspec")
    try:
        import ocifs  # noqa: F401
    except ImportError:
        with pytest.raises(UsageError, match="oci:// needs a package that is not installed") as caught:
            build_index(["oci://bucket/a.tar"], tmp_path / "index", OPTIONS)
        assert "pip install" in (caught.value.hint or "") and "ocifs" in caught.value.hint
    with pytest.raises(UsageError, match=r"[Pp]rotocol not known"):
        build_index(["nosuch://bucket/a.tar"], tmp_path / "index", OPTIONS)
    assert not (tmp_path / "index").exists()


def test_ranges_are_read_in_blocks_that_are_kept(memory, monkeypatch):
    data = np.random.default_rng(0).bytes(10_000)
    memory.pipe_file("/f.bin", data)
    monkeypatch.setattr(remote, "BLOCK_BYTES", 1_000)
    path = RemotePath(normal("memory://f.bin"))
    with RangeReader(path, blocks=True) as reader:
        asked = []
        fetch = reader._cache.fetcher
        reader._cache.fetcher = lambda start, end: asked.append((start, end)) or fetch(start, end)
        for start, size in ((0, 10), (500, 20), (990, 30), (9_990, 100), (9_999, 1), (20_000, 5)):
            assert reader.read(start, size) == data[start : start + size]
    assert len(asked) == 3
    with path.open() as file:
        file.seek(-5, 2)
        assert file.read() == data[-5:]


def test_urls_are_told_from_paths():
    for url in ("s3://b/x", "https://h/x", "memory://x", "GS://b"):
        assert is_remote(url)
    for path in ("/a/b", "file:///a", "a://b"[1:], "C:/x", Path("s3:/b")):
        assert not is_remote(path)
    assert normal("HTTP://h/a/") == "http://h/a" and normal("memory://a") == "memory:///a"
    assert RemotePath("s3://b/a.v1.tar").with_suffix(".parquet").url == "s3://b/a.v1.parquet"


def test_a_stamp_is_a_number_that_changes_with_the_version():
    assert stamp({"ETag": '"a"'}) == stamp({"ETag": '"a"', "created": 5}) != stamp({"ETag": '"b"'})
    assert stamp({"mtime": 1.5}) == 1_500_000_000
    assert stamp({"size": 3}) == 0
