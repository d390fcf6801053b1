"""img2dataset's Parquet file beside each tar."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.pools import PartReader, PlannedPart, Roots, Source, list_pools


@pytest.fixture
def items(tmp_path):
    """`items()`: of 00000.tar, with the problems."""

    def read():
        roots = Roots(tmp_path / "index")
        number, _ = roots.place(str(tmp_path / "pool"))
        source = Source(number, "00000.tar", (tmp_path / "pool/00000.tar").stat().st_size, 0)
        with PartReader(PlannedPart((source,), 0), roots) as reader:
            return list(reader.items()), reader.problems

    return read


@pytest.fixture
def tar(tmp_path, write_tar) -> Path:
    members = {
        "000000002.jpg": b"two",
        "000000002.txt": b"by hand",
        "000000001.json": b'{"url": "http://json/1", "own": 1}',
        "000000001.webp": b"one",
        "000000003.png": b"three",
        "000000009.jpeg": b"nine",
    }
    return write_tar(tmp_path / "pool/00000.tar", members)


TABLE = {
    "key": ["000000001", "000000002", "000000003", "000000004"],
    "url": [f"http://table/{number}" for number in (1, 2, 3, 4)],
    "caption": ["first", "second", None, "failed"],
    "width": [10, 20, 30, None],
    "original_width": [100, 200, 300, None],
    "status": ["success"] * 3 + ["failed_to_download"],
    "exif": ["{}", "", None, None],
}


def test_the_table_says_what_the_tar_does_not(tar, items):
    pq.write_table(pa.table(TABLE), tar.with_suffix(".parquet"))
    (tar.parent / "00000_stats.json").write_text("{}")
    found, problems = items()
    assert problems == []
    about = {item.key: (item.caption, item.url) for item in found}
    assert about == {
        "000000002": ("by hand", "http://table/2"),
        "000000001": (None, "http://json/1"),
        "000000003": (None, "http://table/3"),
        "000000009": (None, None),
    }
    extra = json.loads(found[0].extra)
    assert extra == {"width": 20, "original_width": 200, "status": "success"}


def test_it_is_no_pool_of_its_own(tar, tmp_path):
    pq.write_table(pa.table(TABLE), tar.with_suffix(".parquet"))
    (tar.parent / "00000_stats.json").write_text("{}")
    found = list_pools([tar.parent], Roots(tmp_path / "index"))
    assert [source.path for source in found.sources] == ["00000.tar"]
    assert found.skipped == []
    given = list_pools([tar.with_suffix(".parquet")], Roots(tmp_path / "index"))
    assert given.sources == [] and "belongs to the tar beside it" in given.skipped[0][1]


def test_a_damaged_table_costs_no_image(tar, items):
    tar.with_suffix(".parquet").write_bytes(b"PAR1 no more")
    found, problems = items()
    assert len(found) == 4
    assert [(problem.kind, problem.reason[:23]) for problem in problems] == [
        ("metadata", "00000.parquet: damaged:")
    ]


def test_real_output_reads_the_same_from_the_table_as_from_the_json(pool_tars, tmp_path):
    """The tar without its JSON members gives the URLs, captions and metadata that it gives with them."""
    import tarfile

    (tmp_path / "pool").mkdir()
    bare = tmp_path / "pool/00000.tar"
    with tarfile.open(pool_tars[0]) as full, tarfile.open(bare, "w") as out:
        for number, member in enumerate(full):
            if number >= 300:
                break
            if not member.name.endswith(".json"):
                out.addfile(member, full.extractfile(member))
    (tmp_path / "pool/00000.parquet").symlink_to(pool_tars[0].with_suffix(".parquet"))
    roots = Roots(tmp_path / "index")
    number, _ = roots.place(str(tmp_path / "pool"))
    other, _ = roots.place(str(pool_tars[0].parent))
    read = []
    for root in (number, other):
        with PartReader(PlannedPart((Source(root, "00000.tar", 0, 0),), 0), roots) as reader:
            read.append({item.key: item for item in reader.items()})
    assert len(read[0]) >= 100
    for key, item in read[0].items():
        full_item = read[1][key]
        assert (item.caption, item.url) == (full_item.caption, full_item.url)
        expected = {k: v for k, v in json.loads(full_item.extra).items() if k != "key" and v is not None}
        assert json.loads(item.extra) == expected
