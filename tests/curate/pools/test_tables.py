"""Parquet tables as pools: images in a column, paths in a column."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.index.build import build_index
from curate.index.compact import compact
from curate.index.index import open_index
from curate.pools import row_groups, tables
from curate.pools.row_groups import RowGroups
from tests.curate.pools.built import OPTIONS, items_of
from transferset.copies import item_id
from transferset.errors import DataError


@pytest.fixture
def images(picture: Callable[..., np.ndarray], encode: Callable[..., bytes]) -> list[bytes]:
    """Ten images of three formats."""
    formats = ("jpeg", "png", "webp")
    return [encode(picture(40, 30, seed=number), formats[number % 3]) for number in range(10)]


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)
    return path


def test_bytes_in_a_column(tmp_path, images):
    about = {
        "caption": [f"picture {n}" for n in range(10)],
        "url": ["http://x"] * 10,
        "label": list(range(10)),
    }
    write(tmp_path / "pool/a.parquet", {"bytes": images, "width": [1] * 10, **about}, row_group_size=3)
    report = build_index([tmp_path / "pool"], tmp_path / "index", OPTIONS)
    assert (report.images, report.distinct, report.parts, report.error_count) == (10, 10, 1, 0)
    index = open_index(tmp_path / "index")
    items = items_of(tmp_path / "index")
    assert [index.read_bytes(item) for item in items] == images
    assert [(item.source, item.offset, item.path) for item in items[:2]] == [
        ("a.parquet", 0, None),
        ("a.parquet", 1, None),
    ]
    assert (items[4].item_id, items[4].size) == (item_id(images[4]), len(images[4]))
    assert (items[4].key, items[4].caption, items[4].url) == ("a/4", "picture 4", "http://x")
    assert json.loads(items[4].extra) == {"label": 4, "width": 1}
    assert (items[4].format, items[4].width, items[4].height) == ("png", 40, 30)
    assert build_index([tmp_path / "pool"], tmp_path / "index", OPTIONS).new_images == 0


def test_a_table_as_datasets_writes_it(tmp_path, images):
    column = [{"bytes": data, "path": f"{number}.v1.png"} for number, data in enumerate(images)]
    column[3] = {"bytes": None, "path": "/home/someone/3.png"}
    column[4] = None
    write(tmp_path / "pool/train-00000-of-00001.parquet", {"image": column, "label": list(range(10))})
    report = build_index([tmp_path / "pool"], tmp_path / "index", OPTIONS)
    assert (report.images, report.errors) == (8, {"empty": 2})
    items = items_of(tmp_path / "index")
    assert [item.key for item in items[:4]] == ["0.v1", "1.v1", "2.v1", "5.v1"]
    assert open_index(tmp_path / "index").read_bytes(items[3]) == images[5]


def test_the_embeddings_are_those_of_the_same_files(tmp_path, images):
    write(tmp_path / "table/a.parquet", {"jpg": images}, row_group_size=4)
    (tmp_path / "files").mkdir()
    for number, data in enumerate(images):
        (tmp_path / f"files/{number}.png").write_bytes(data)
    for name in ("table", "files"):
        build_index([tmp_path / name], tmp_path / f"index-{name}", OPTIONS)
    rows = [open_index(tmp_path / f"index-{name}").embeddings(0) for name in ("table", "files")]
    np.testing.assert_array_equal(*rows)


def test_retrieve_writes_the_images_of_a_table(tmp_path, images, query_dir):
    from curate.retrieval import RetrieveOptions, retrieve
    from curate.selection.select_options import SelectOptions
    from transferset.tars import TarReader

    write(tmp_path / "pool/a.parquet", {"image": images}, row_group_size=2)
    build_index([tmp_path / "pool"], tmp_path / "index", OPTIONS)
    retrieve(tmp_path / "index", query_dir, tmp_path / "out", RetrieveOptions(SelectOptions(total=10)))
    rows = pq.read_table(tmp_path / "out/samples.parquet").to_pylist()
    with TarReader(tmp_path / "out/shards/000000.tar") as tar:
        written = {tar.read(row["offset"], row["size"]) for row in rows}
    assert written == set(images)
    assert "a.parquet" in {row["source"] for row in rows}


def test_a_table_that_changed_is_seen_and_a_copy_is_not(tmp_path, images):
    path = write(tmp_path / "pool/a.parquet", {"bytes": images})
    build_index([tmp_path / "pool"], tmp_path / "index", OPTIONS)
    os.utime(path, ns=(1, 1))
    report = build_index([tmp_path / "pool"], tmp_path / "index", OPTIONS)
    assert (report.new_images, report.changed) == (0, [])
    write(path, {"bytes": images[:6]})
    index = open_index(tmp_path / "index")
    with pytest.raises(DataError, match="no row 9: it was replaced") as caught:
        index.read_bytes(items_of(tmp_path / "index")[9])
    assert "has changed since it was indexed" in caught.value.hint
    report = build_index([tmp_path / "pool"], tmp_path / "index", OPTIONS)
    assert (report.new_images, report.changed) == (6, [str(path)])
    assert compact(tmp_path / "index").images == 6


def test_a_damaged_table_is_told(tmp_path, images):
    write(tmp_path / "pool/b.parquet", {"bytes": images})
    cut = write(tmp_path / "pool/a.parquet", {"bytes": images})
    cut.write_bytes(cut.read_bytes()[:-20])
    report = build_index([tmp_path / "pool"], tmp_path / "index", OPTIONS)
    assert report.images == 10
    assert [(Path(path).name, reason[:8]) for path, reason in report.skipped] == [("a.parquet", "damaged:")]


def test_a_damaged_image_in_a_table_costs_no_other(tmp_path, images):
    path = write(tmp_path / "pool/a.parquet", {"bytes": images}, compression="none", use_dictionary=False)
    data = bytearray(path.read_bytes())
    start = data.index(images[0])
    data[start + 200 : start + 260] = b"\xff" * 60
    path.write_bytes(data)
    report = build_index([tmp_path / "pool"], tmp_path / "index", OPTIONS)
    assert (report.images, report.errors) == (9, {"damaged": 1})
    assert [item.offset for item in items_of(tmp_path / "index")] == list(range(1, 10))


def test_what_comes_before_the_damage_of_a_table_is_kept(tmp_path, images):
    path = write(tmp_path / "pool/a.parquet", {"bytes": images}, row_group_size=5)
    group = pq.read_metadata(path).row_group(1).column(0)
    data = bytearray(path.read_bytes())
    data[group.dictionary_page_offset : group.dictionary_page_offset + 20] = b"\xff" * 20
    path.write_bytes(data)
    report = build_index([tmp_path / "pool"], tmp_path / "index", OPTIONS)
    [note] = report.notes
    assert note.startswith(f"{path}: damaged: ") and note.endswith("; the 5 intact images in it are kept")
    assert [item.item_id for item in items_of(tmp_path / "index")] == list(map(item_id, images[:5]))


def test_paths_in_a_table_are_loose_files_with_metadata(tmp_path, images):
    (tmp_path / "pool/images").mkdir(parents=True)
    for number, data in enumerate(images):
        (tmp_path / f"pool/images/{number}.png").write_bytes(data)
    (tmp_path / "pool/images/0.txt").write_text("by hand")
    (tmp_path / "pool/images/1.json").write_text('{"stars": 9, "of": "json"}')
    far = tmp_path / "far"
    far.mkdir()
    (far / "x.jpg").write_bytes(images[9])
    paths = ["images/1.png", "./images/0.png", str(far / "x.jpg"), "images/lost.png", None, "notes.pdf"]
    about = {
        "caption": ["one", None, "far", "", "", ""],
        "stars": [1, 2, 3, 4, 5, 6],
        "key": ["k"] + [None] * 5,
    }
    table = write(tmp_path / "pool/about.parquet", {"path": paths, **about})
    report = build_index([tmp_path / "pool"], tmp_path / "index", OPTIONS)
    assert (report.images, report.distinct, report.error_count) == (11, 10, 0)
    assert sorted(reason for _, reason in report.skipped) == [
        "1 of its 6 files do not exist, as " + str(tmp_path / "pool/images/lost.png"),
        "2 of its 6 rows name no JPEG, PNG or WebP file",
    ]
    items = {item.path: item for item in items_of(tmp_path / "index")}
    assert (items["images/1.png"].caption, items["images/1.png"].key) == ("one", "k")
    assert json.loads(items["images/1.png"].extra) == {"stars": 9, "of": "json"}
    assert (items["images/0.png"].caption, items["images/0.png"].key) == ("by hand", "images/0")
    assert (items["images/2.png"].caption, items["images/2.png"].extra) == (None, None)
    assert (items["x.jpg"].caption, items["x.jpg"].root) == ("far", 1)
    assert open_index(tmp_path / "index").read_bytes(items["x.jpg"]) == images[9]
    again = build_index([table], tmp_path / "index", OPTIONS)
    assert (again.new_images, again.gone) == (0, [])


def test_a_table_alone_names_its_files(tmp_path, images):
    for number, data in enumerate(images):
        path = tmp_path / f"files/{number}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    table = write(tmp_path / "files/some.parquet", {"image_path": ["3.png", "5.png"]})
    build_index([table], tmp_path / "index", OPTIONS)
    assert [item.path for item in items_of(tmp_path / "index")] == ["3.png", "5.png"]


def test_other_tables_are_left_out_and_told(tmp_path, images):
    write(tmp_path / "pool/a.parquet", {"bytes": images})
    write(tmp_path / "pool/numbers.parquet", {"x": [1]})
    report = build_index([tmp_path / "pool"], tmp_path / "index", OPTIONS)
    assert report.images == 10
    assert [(Path(path).name, reason) for path, reason in report.skipped] == [
        ("numbers.parquet", "a table without images or paths")
    ]


def test_row_groups_are_decoded_once_within_a_budget(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet", {"bytes": [bytes([n]) * 1000 for n in range(40)]}, row_group_size=10)
    reads = []
    read = pq.ParquetFile.read_row_group

    def counting(self, number, **options):
        reads.append(number)
        return read(self, number, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counting)
    groups = RowGroups(budget=25_000)
    for row in (0, 9, 11, 5, 19):
        assert tables.read_table_bytes(groups, path, row) == bytes([row]) * 1000
    assert reads == [0, 1]
    tables.read_table_bytes(groups, path, 39)
    tables.read_table_bytes(groups, path, 0)
    assert reads == [0, 1, 3, 0]
    small = RowGroups(budget=100)
    assert tables.read_table_bytes(small, path, 17) == bytes([17]) * 1000
    assert reads == [0, 1, 3, 0], "a group beyond the budget is streamed"
    with pytest.raises(DataError, match="no row 40"):
        tables.read_table_bytes(groups, path, 40)


def test_many_tables_do_not_exhaust_open_files(tmp_path, monkeypatch):
    monkeypatch.setattr(row_groups, "_OPEN_FILES", 2)
    paths = [write(tmp_path / f"{n}.parquet", {"bytes": [b"a%d" % n, b"b%d" % n]}) for n in range(5)]
    groups = RowGroups(budget=0)
    for _ in range(2):
        for number, path in enumerate(paths):
            assert tables.read_table_bytes(groups, path, 1) == b"b%d" % number
    assert len(groups._files) == 2
