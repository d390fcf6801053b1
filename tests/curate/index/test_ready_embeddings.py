"""An index of ready embeddings: no image, no run of the encoder."""

import errno
import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from curate.index.build import build_index
from curate.index.compact import compact
from curate.index.forget import ForgetOptions, forget
from curate.index.index import open_index
from curate.index.info import info
from curate.index.ledger import read_ledger
from curate.index.options import BuildOptions
from curate.index.verify import verify
from curate.pools import listing
from tests.trees import checksums
from transferset.errors import DataError, InterruptedRun, UsageError
from transferset.writes import sha256_file

OPTIONS = BuildOptions(
    encoder="timm:test_efficientnet@none",
    image_size=32,
    runtime="eager",
    batch_size=4,
    threads=1,
    faiss=False,
)
DIMENSION = 256


def vectors(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, DIMENSION)).astype(np.float32)


def urls(rows: int, start: int = 0) -> list[str]:
    return [f"https://example.org/{number}.jpg" for number in range(start, start + rows)]


def url_id(url: str) -> bytes:
    return hashlib.sha256(url.encode()).digest()[:16]


def errors_of(index: Path, part: int = 0) -> list[tuple[str, str | None, str]]:
    rows = pq.read_table(index / f"parts/{part:06d}/errors.parquet").to_pylist()
    return [(row["kind"], row["key"], row["reason"]) for row in rows]


@pytest.fixture
def pool(tmp_path, write_ready) -> Path:
    """Two pairs of files, of 10 and 5 rows."""
    write_ready(tmp_path / "pool", 0, 5 * vectors(10), {"url": urls(10)}, digits=4)
    about = {"URL": urls(5, 10), "TEXT": ["a cat", None, "", "x", "y"], "similarity": [0.5, None, 1.0, 0, 0]}
    return write_ready(tmp_path / "pool", 1, vectors(5, 1).astype(np.float16), about, digits=4)


def test_rows_are_scaled_and_items_are_named_by_their_urls(pool, tmp_path, monkeypatch):
    from transferset.models import runtime

    monkeypatch.setattr(runtime.FrozenModel, "__call__", lambda *_: pytest.fail("the encoder ran"))
    report = build_index([pool], tmp_path / "index", OPTIONS)
    assert (report.images, report.distinct, report.parts, report.error_count) == (15, 15, 2, 0)
    index = open_index(tmp_path / "index")
    assert (index.plan.id_kind, index.manifest["id_kind"], index.has_bytes) == ("url", "url", False)
    rows = 5 * vectors(10)
    expected = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    np.testing.assert_array_equal(index.embeddings(0), expected)
    item = index.item(url_id(urls(1, 10)[0]))
    assert (item.url, item.caption, item.source, item.offset, item.size, item.format) == (
        "https://example.org/10.jpg", "a cat", "img_emb/img_emb_0001.npy", 0, 0, "",
    )  # fmt: skip
    assert json.loads(item.extra or "") == {"similarity": 0.5}
    assert index.item((1 << 32) + 2).caption is None
    positions, scores = index.search(expected[3:4].astype(np.float32), 2)
    assert positions[0, 0] == 3 and scores[0, 0] == 1
    with pytest.raises(DataError, match="known by its url only"):
        index.read_bytes(item)
    assert verify(tmp_path / "index").damaged == ()
    assert info(tmp_path / "index")["id_kind"] == "url"


def test_what_is_new_is_added_and_running_again_changes_nothing(pool, tmp_path, write_ready, monkeypatch):
    build_index([pool], tmp_path / "index", OPTIONS)
    before = checksums(tmp_path / "index")
    assert build_index([pool], tmp_path / "index", replace(OPTIONS, encoder=None)).new_images == 0
    assert checksums(tmp_path / "index") == before
    write_ready(pool, 2, vectors(3, 2), {"url": urls(3, 20)}, digits=4)
    report = build_index([pool], tmp_path / "index", OPTIONS)
    assert (report.new_images, report.images, report.changed, report.gone) == (3, 18, [], [])
    after = checksums(tmp_path / "index")
    assert {name for name in before if before[name] != after.get(name) and name.startswith("parts/")} == set()
    build_index([pool], tmp_path / "whole", OPTIONS)
    for number in range(3):
        name = f"parts/{number:06d}/items.arrow"
        assert sha256_file(tmp_path / "whole" / name) == after[name]


def test_a_copy_with_other_times_is_not_read_again(pool, tmp_path):
    build_index([pool], tmp_path / "index", OPTIONS)
    shutil.copytree(pool, tmp_path / "copy", copy_function=shutil.copyfile)
    shutil.rmtree(pool)
    report = build_index([tmp_path / "copy"], tmp_path / "index")
    assert (report.new_images, report.gone, report.changed) == (0, [], [])
    assert "moved" in report.notes[0]


def test_a_long_file_is_cut_into_parts_that_do_not_show(pool, tmp_path, monkeypatch):
    build_index([pool], tmp_path / "whole", OPTIONS)
    monkeypatch.setattr(listing, "PIECE_ROWS", 4)
    report = build_index([pool], tmp_path / "cut", OPTIONS)
    assert (report.parts, report.images) == (5, 15)
    whole, cut = open_index(tmp_path / "whole"), open_index(tmp_path / "cut")
    joined = [np.concatenate([one.embeddings for one in index.parts]) for index in (whole, cut)]
    np.testing.assert_array_equal(*joined)
    items = [
        [item.url for part in index.parts for item in part.read(np.arange(part.rows))]
        for index in (whole, cut)
    ]
    assert items[0] == items[1]
    done = json.loads((tmp_path / "cut/parts/000001/done.json").read_text())
    assert [(one["first"], one["rows"], one["images"]) for one in done["sources"]] == [(4, 4, 4)]


def test_a_stopped_build_goes_on_within_a_file(pool, tmp_path, monkeypatch):
    from curate.index.building import ready_part

    monkeypatch.setattr(listing, "PIECE_ROWS", 4)
    build_index([pool], tmp_path / "whole", OPTIONS)
    copy, calls = ready_part.copy_embeddings, []

    def stop_at_the_second(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return copy(*arguments)

    monkeypatch.setattr(ready_part, "copy_embeddings", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        build_index([pool], tmp_path / "index", OPTIONS)
    report = build_index([pool], tmp_path / "index", OPTIONS)
    assert (report.new_parts, report.changed) == (4, [])
    whole, resumed = checksums(tmp_path / "whole"), checksums(tmp_path / "index")
    assert {n: s for n, s in whole.items() if n != "plan.json"} == {
        n: s for n, s in resumed.items() if n != "plan.json"
    }


def test_rows_that_cannot_be_used_are_errors(tmp_path, write_ready):
    rows = vectors(5)
    rows[1], rows[2, 3], rows[3, 3] = 0, np.nan, np.inf
    write_ready(tmp_path / "pool", 0, rows, {"url": [*urls(4), None]})
    report = build_index([tmp_path / "pool"], tmp_path / "index", OPTIONS)
    assert report.images == 1
    assert report.errors == {
        "zero embedding": 1,
        "embedding that is not finite": 2,
        "no url in the metadata": 1,
    }
    assert [key for _, key, _ in errors_of(tmp_path / "index")] == [*urls(3, 1), "img_emb_0/4"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda array, _: array.write_bytes(array.read_bytes()[:-5]), "cut off: it holds 9 of its 10 rows"),
        (lambda array, _: array.write_bytes(b"x" * 200), "not an npy file"),
        (lambda array, _: np.save(array, np.zeros((10, DIMENSION), int)), "not float16 or float32 but int64"),
        (
            lambda array, _: np.save(array, np.zeros(10, np.float32)),
            r"not rows of embeddings: its shape is \(10,\)",
        ),
        (lambda array, _: np.save(array, vectors(9)), "9 embeddings, but 10 rows of metadata"),
        (lambda _, table: table.write_bytes(table.read_bytes()[:-9]), "its metadata is damaged"),
    ],
)
def test_a_damaged_pair_is_told_and_read_again_when_it_is_mended(pool, tmp_path, damage, reason, write_ready):
    damage(pool / "img_emb/img_emb_0000.npy", pool / "metadata/metadata_0000.parquet")
    report = build_index([pool], tmp_path / "index", OPTIONS)
    assert report.images == 5
    assert [kind for kind, _, _ in errors_of(tmp_path / "index")] == ["source"]
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(report.notes[-1])
    assert info(tmp_path / "index")["damaged_tars"][0]["path"].endswith("img_emb_0000.npy")
    write_ready(pool, 0, 5 * vectors(10), {"url": urls(10)}, digits=4)
    assert build_index([pool], tmp_path / "index").images == 15


def test_damage_in_the_middle_keeps_what_came_before(tmp_path, write_ready, monkeypatch):
    from curate.pools import embeddings

    monkeypatch.setattr(embeddings, "BLOCK_ROWS", 4)
    pool = write_ready(tmp_path / "pool", 0, vectors(20), {"url": urls(20)})
    table = pq.read_table(pool / "metadata/metadata_0.parquet")
    path = pool / "metadata/metadata_0.parquet"
    pq.write_table(table, path, row_group_size=10, compression="gzip")
    data = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).dictionary_page_offset
    data[start : start + 40] = b"\xff" * 40
    path.write_bytes(data)
    report = build_index([pool], tmp_path / "index", OPTIONS)
    assert 8 <= report.images <= 10
    assert "rows before are kept" in report.notes[-1]


def test_a_failing_disk_stops_the_build_which_goes_on_later(pool, tmp_path, monkeypatch):
    from curate.pools import embeddings

    read, calls = embeddings._embeddings, []

    def fail(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise OSError(errno.EIO, "Input/output error")
        return read(*arguments)

    monkeypatch.setattr(embeddings, "_embeddings", fail)
    with pytest.raises(InterruptedRun, match=r"img_emb_0001\.npy cannot be read: Input/output error"):
        build_index([pool], tmp_path / "index", OPTIONS)
    assert [path.name for path in (tmp_path / "index/parts").iterdir()] == ["000000"]
    assert build_index([pool], tmp_path / "index", OPTIONS).images == 15


def test_files_without_a_partner_are_left_out_and_told(pool, tmp_path, write_ready):
    (pool / "img_emb/img_emb_0001.npy").rename(pool / "img_emb/img_emb_0007.npy")
    np.save(pool / "img_emb/img_emb_00000.npy", vectors(1))
    np.save(pool / "img_emb/all.npy", vectors(1))
    report = build_index([pool], tmp_path / "index", OPTIONS)
    assert report.images == 10
    told = {Path(path).name: reason for path, reason in report.skipped}
    assert "no metadata" in told["img_emb_0007.npy"] and "no embeddings" in told["metadata_0001.parquet"]
    assert "does not end with a number" in told["all.npy"]
    assert any("has the same number" in reason for reason in told.values())


def test_a_folder_of_images_may_have_that_name(tmp_path, picture, encode):
    (tmp_path / "pool/img_emb").mkdir(parents=True)
    (tmp_path / "pool/img_emb/a.jpg").write_bytes(encode(picture()))
    build_index([tmp_path / "pool"], tmp_path / "index", OPTIONS)
    assert open_index(tmp_path / "index").item(0).path == "img_emb/a.jpg"


def test_a_stopped_retrieval_is_finished_by_the_same_command(pool, tmp_path, query_dir, monkeypatch):
    from curate.retrieval import RetrieveOptions, retrieve
    from curate.selection.select_options import SelectOptions
    from curate.transfer_set import writing

    build_index([pool], tmp_path / "index", OPTIONS)
    options = RetrieveOptions(SelectOptions(total=8))
    retrieve(tmp_path / "index", query_dir, tmp_path / "whole", options)
    write = writing.write_json
    monkeypatch.setattr(writing, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        retrieve(tmp_path / "index", query_dir, tmp_path / "out", options)
    assert not (tmp_path / "out/manifest.json").exists()
    monkeypatch.setattr(writing, "write_json", write)
    retrieve(tmp_path / "index", query_dir, tmp_path / "out", options)
    assert checksums(tmp_path / "out") == checksums(tmp_path / "whole")


def test_the_encoder_must_fit(pool, tmp_path, write_ready):
    write_ready(tmp_path / "other", 0, vectors(4)[:, :64], {"url": urls(4)})
    with pytest.raises(UsageError, match=r"have 64 numbers, those of the encoder .* have 256"):
        build_index([tmp_path / "other"], tmp_path / "index", OPTIONS)
    assert not (tmp_path / "index/plan.json").exists()


def test_images_and_urls_do_not_mix(pool, tmp_path, small_pool, write_ready):
    with pytest.raises(UsageError, match=r"named differently: .* by their bytes; .* by their URLs"):
        build_index([pool, small_pool.pool], tmp_path / "index", OPTIONS)
    build_index([pool], tmp_path / "index", OPTIONS)
    with pytest.raises(UsageError, match="ids of their URLs, and this pool gives ids of their bytes"):
        build_index([small_pool.pool], tmp_path / "index", OPTIONS)
    write_ready(tmp_path / "paths", 0, vectors(2), {"image_path": ["a", "b"]})
    with pytest.raises(UsageError, match="ids of their paths"):
        build_index([tmp_path / "paths"], tmp_path / "index", OPTIONS)


def test_without_urls_paths_name_the_items(tmp_path, write_ready):
    write_ready(tmp_path / "pool", 0, vectors(3), {"image_path": ["/d/a.jpg", "/d/b.jpg", None]})
    report = build_index([tmp_path / "pool"], tmp_path / "index", OPTIONS)
    assert report.errors == {"no path in the metadata": 1}
    index = open_index(tmp_path / "index")
    assert index.plan.id_kind == "path"
    item = index.item(url_id("/d/b.jpg"))
    assert (item.key, item.url) == ("/d/b.jpg", None)
    write_ready(tmp_path / "nameless", 0, vectors(3), {"caption": ["a", "b", "c"]})
    with pytest.raises(UsageError, match="no column url and no column image_path"):
        build_index([tmp_path / "nameless"], tmp_path / "index2", OPTIONS)


def test_the_same_url_twice_is_one_item(tmp_path, write_ready):
    write_ready(tmp_path / "pool", 0, vectors(3), {"url": [*urls(2), *urls(1)]})
    report = build_index([tmp_path / "pool"], tmp_path / "index", OPTIONS)
    assert (report.images, report.distinct) == (3, 2)


def test_forgotten_urls_leave_and_do_not_come_again(pool, tmp_path, write_ready):
    build_index([pool], tmp_path / "index", OPTIONS)
    found = forget(tmp_path / "index", ForgetOptions(urls=["https://example.org/1?.jpg"]))
    assert len(found.items) == 5
    forget(tmp_path / "index", ForgetOptions(item_ids=[url_id(urls(1)[0]).hex()]))
    with pytest.raises(UsageError, match="does not know its images by their bytes"):
        forget(tmp_path / "index", ForgetOptions(images=[tmp_path / "x.jpg"]))
    index = open_index(tmp_path / "index")
    assert index.distinct == 9 and index.find(url_id(urls(1)[0])) is None
    purged = compact(tmp_path / "index")
    assert (purged.forgotten, purged.gone, purged.images) == (6, 0, 9)
    write_ready(pool, 5, vectors(2, 9), {"url": [urls(1)[0], "https://example.org/new.jpg"]}, digits=4)
    report = build_index([pool], tmp_path / "index")
    assert (report.new_images, report.forgotten, report.changed) == (1, 1, [])
    assert len(read_ledger(tmp_path / "index").ids) == 6


def test_what_left_the_pool_leaves_at_compact(pool, tmp_path):
    build_index([pool], tmp_path / "index", OPTIONS)
    (pool / "img_emb/img_emb_0001.npy").unlink()
    (pool / "metadata/metadata_0001.parquet").unlink()
    report = build_index([pool], tmp_path / "index")
    assert [Path(path).name for path in report.gone] == ["img_emb_0001.npy"]
    assert compact(tmp_path / "index").images == 10
    assert verify(tmp_path / "index").damaged == ()


def test_the_default_encoder_is_noted(pool, tmp_path, monkeypatch):
    from curate.index import encoder, options

    monkeypatch.setattr(encoder, "DEFAULT_ENCODER", "timm:test_efficientnet@none")
    report = build_index([pool], tmp_path / "index", replace(OPTIONS, encoder=None))
    assert options.DEFAULT_ENCODER in report.notes[0] and "--encoder" in report.notes[0]
