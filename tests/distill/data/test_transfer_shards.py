import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distill.data.samples import ImageReader
from distill.data.transfer_shards import open_transfer_shards
from tests.distill.data.memory import peak_bytes
from transferset.copies import item_id
from transferset.errors import DataError, UsageError
from transferset.tars import scan
from transferset.writes import write_parquet


@pytest.fixture
def images(picture: Callable[..., np.ndarray], encode: Callable[..., bytes]) -> list[bytes]:
    return [encode(picture(40, 30, number)) for number in range(6)]


def _transfer_set(root: Path, images: list[bytes], write_tar: Callable[..., Path], as_text: bool) -> None:
    """As `curate retrieve` lays it out: two shards, members named by item id, a table with places."""
    rows: list[dict[str, object]] = []
    for shard, part in (("000000.tar", images[:4]), ("000001.tar", images[4:])):
        names = [item_id(data).hex() for data in part]
        members = {f"{name}.{ext}": data for name, data in zip(names, part) for ext in ("jpg", "json")}
        path = write_tar(root / "shards" / shard, members)
        for member in scan(path).members:
            if member.name.endswith(".jpg"):
                key = bytes.fromhex(member.name[:-4])
                identity: object = key.hex() if as_text else key
                row = {"item_id": identity, "shard": shard, "offset": member.offset, "size": member.size}
                rows.append(row)
    write_parquet(root / "samples.parquet", pa.Table.from_pylist(rows))


@pytest.mark.parametrize("as_text", [True, False])
def test_a_transfer_set_is_read_by_its_table(
    tmp_path: Path, images: list[bytes], write_tar: Callable[..., Path], as_text: bool
) -> None:
    _transfer_set(tmp_path / "set", images, write_tar, as_text)
    found = open_transfer_shards([tmp_path / "set"])
    assert [found.samples.read(i) for i in range(6)] == images and not found.dropped
    assert [bytes(row) for row in found.samples.ids] == [item_id(data) for data in images]
    moved = open_transfer_shards([(tmp_path / "set").rename(tmp_path / "elsewhere")])
    assert moved.samples.fingerprint == found.samples.fingerprint


def test_a_lacking_shard_is_an_error_and_a_cut_one_drops_samples(
    tmp_path: Path, images: list[bytes], write_tar: Callable[..., Path]
) -> None:
    _transfer_set(tmp_path, images, write_tar, True)
    second = tmp_path / "shards" / "000001.tar"
    with second.open("r+b") as file:
        file.truncate(2000)
    found = open_transfer_shards([tmp_path])
    assert len(found.samples) + len(found.dropped) == 6 and "cut off" in found.dropped[0][1]
    second.unlink()
    with pytest.raises(DataError, match=r"000001\.tar"):
        open_transfer_shards([tmp_path])


def test_a_shard_that_was_changed_is_noticed(
    tmp_path: Path, images: list[bytes], write_tar: Callable[..., Path]
) -> None:
    _transfer_set(tmp_path, images, write_tar, True)
    samples = open_transfer_shards([tmp_path]).samples
    with (tmp_path / "shards" / "000000.tar").open("r+b") as file:
        file.seek(int(samples.offset[0]) + 100)
        file.write(b"\0\1\2\3")
    reader = ImageReader(samples, None)
    assert reader.image(0).index != 0 and len(reader.dropped) == 1


def test_tars_that_webdataset_wrote(tmp_path: Path, images: list[bytes]) -> None:
    import webdataset

    with webdataset.TarWriter(str(tmp_path / "b.tar")) as sink:
        for number, data in enumerate(images[:3]):
            sink.write({"__key__": f"x/{number:05d}", "jpg": data, "cls": number, "json": {"a": 1}})
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as sink:
        for number, data in enumerate(images[3:]):
            sink.write({"__key__": f"{number:05d}", "left.jpg": data, "txt": "caption"})
    found = open_transfer_shards([tmp_path])
    assert [found.samples.read(i) for i in range(6)] == images[3:] + images[:3]
    reader = ImageReader(found.samples, None)
    assert reader.image(0).item_id == item_id(images[3])
    one = open_transfer_shards([str(tmp_path / "b*.tar"), tmp_path / "b.tar"])
    assert len(one.samples) == 3


def test_samples_without_an_image_and_cut_tars_are_told(
    tmp_path: Path, images: list[bytes], write_tar: Callable[..., Path]
) -> None:
    members = {"0.txt": b"no image", "1.jpg": images[0], "2.JPEG": images[1], "3.jpg": images[2]}
    path = write_tar(tmp_path / "x.tar", members)
    last = scan(path).members[-1]
    with path.open("r+b") as file:
        file.truncate(last.offset + last.size // 2)
    found = open_transfer_shards([path])
    assert [found.samples.read(i) for i in range(len(found.samples))] == images[:2]
    assert {where.rpartition("/")[2] for where, _ in found.dropped} == {"x.tar", "x.tar:0"}


def test_what_is_no_transfer_set(tmp_path: Path, write_tar: Callable[..., Path]) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        open_transfer_shards([tmp_path / "none*"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no \.tar"):
        open_transfer_shards([tmp_path / "empty"])
    with pytest.raises(DataError, match="no image"):
        open_transfer_shards([write_tar(tmp_path / "t.tar", {"a.txt": b"x"})])
    with tarfile.open(tmp_path / "z.tar", "w:gz"):
        pass
    with pytest.raises(DataError, match="not a readable tar"):
        open_transfer_shards([tmp_path / "z.tar"])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "samples.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"samples\.parquet"):
        open_transfer_shards([tmp_path / "broken"])


def test_a_fetched_set_is_read_by_the_ids_of_its_bytes(
    tmp_path: Path, images: list[bytes], write_tar: Callable[..., Path]
) -> None:
    """There `item_id` is of the URL."""
    root = tmp_path / "set"
    _transfer_set(root, images, write_tar, as_text=True)
    table = pq.read_table(root / "samples.parquet")
    urls = pa.array([item_id(b"https://example.org/%d" % row).hex() for row in range(6)])
    table = table.append_column("bytes_id", table.column("item_id")).set_column(0, "item_id", urls)
    write_parquet(root / "samples.parquet", table)
    found = open_transfer_shards([root])
    assert [bytes(row) for row in found.samples.ids] == [item_id(data) for data in images]
    assert ImageReader(found.samples, None).check(range(6)) == list(range(6))


def test_a_set_that_has_not_been_fetched_says_so(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    row = {"item_id": "00" * 16, "shard": None, "offset": None, "size": None}
    write_parquet(tmp_path / "set/samples.parquet", pa.Table.from_pylist([row]))
    with pytest.raises(DataError, match="1 of 1 images") as caught:
        open_transfer_shards([tmp_path / "set"])
    assert "curate fetch" in str(caught.value.hint)


def _sparse_set(root: Path, shards: list[str], offsets: list[int], **columns: object) -> Path:
    """A table whose images of 500 bytes are holes in shards of 4096 bytes."""
    for name in dict.fromkeys(shards):
        (root / "shards").mkdir(parents=True, exist_ok=True)
        with (root / "shards" / name).open("wb") as file:
            file.truncate(4096)
    count = len(shards)
    ids = [f"{row:032x}" for row in range(count)]
    table = {"item_id": ids, "shard": shards, "offset": offsets, "size": [500] * count, **columns}
    pq.write_table(pa.table(table), root / "samples.parquet", row_group_size=1000)
    return root


def test_rows_keep_their_order_and_tars_that_of_their_first_image(
    tmp_path: Path, images: list[bytes], write_tar: Callable[..., Path]
) -> None:
    """Of `c.tar` only the second row lies within the shard, and of `d.tar` none."""
    shards = ["c.tar", "b.tar", "d.tar", "a.tar", "c.tar", "b.tar"]
    root = _sparse_set(tmp_path / "set", shards, [4000, 0, 4000, 512, 1024, 3596])
    loose = write_tar(tmp_path / "loose" / "0.tar", {"0.jpg": images[0]})
    found = open_transfer_shards([root, loose.parent, root])
    samples = found.samples
    assert [path.name for path in samples.sources] == ["b.tar", "a.tar", "c.tar", "0.tar"]
    assert samples.source.tolist() == [0, 1, 2, 0, 0, 1, 2, 0, 3]
    assert samples.offset[:4].tolist() == [0, 512, 1024, 3596] and samples.read(8) == images[0]
    assert samples.ids[:, -1].tolist() == [1, 3, 4, 5] * 2 + [0]
    assert {column.dtype for column in (samples.source, samples.offset, samples.size)} == {np.dtype(np.int64)}
    assert [where.rpartition("/")[2] for where, _ in found.dropped] == ["c.tar@4000", "d.tar@4000"] * 2
    assert found.dropped[0][1] == "beyond the end of the shard: cut off at byte 4096"


def test_shards_may_be_a_categorical_column_and_ids_short(tmp_path: Path) -> None:
    """As pandas writes one; a category that no row has is not looked for."""
    shards = pa.DictionaryArray.from_arrays(pa.array([1, 1]), pa.array(["gone.tar", "a.tar"]))
    root = _sparse_set(tmp_path, ["a.tar"] * 2, [0, 512], shard=shards, item_id=[b"\1\2", b"\3" * 16])
    samples = open_transfer_shards([root]).samples
    assert samples.sources == (root / "shards" / "a.tar",)
    assert samples.ids.tolist() == [[0] * 14 + [1, 2], [3] * 16]


def test_an_image_is_no_object_and_no_call_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 20_000
    root = _sparse_set(tmp_path / "set", ["a.tar", "b.tar"] * (count // 2), [0] * count)
    assert peak_bytes(lambda: open_transfer_shards([root])) < 200 * count
    calls: list[Path] = []
    resolve = Path.resolve
    monkeypatch.setattr(Path, "resolve", lambda path: calls.append(path) or resolve(path))
    assert len(open_transfer_shards([root]).samples) == count and not calls
    assert len(open_transfer_shards([root, root / "shards"]).samples) == count and len(calls) == 4
