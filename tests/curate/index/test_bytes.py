import threading

import numpy as np
import pytest

from curate.index.bytes import ByteReader
from curate.index.part import ItemRow
from curate.pools import Roots
from transferset.copies import item_id
from transferset.errors import DataError


def row(data: bytes, **where) -> ItemRow:
    values = {"source": None, "offset": None, "path": None, "size": len(data), **where}
    place = (values["source"], values["offset"], values["size"], values["path"])
    return ItemRow(item_id(data), "key", 0, *place, None, "jpeg", 1, 1, None, 0, None, 0, 0)


@pytest.fixture
def reader(tmp_path) -> ByteReader:
    roots = Roots(tmp_path / "index")
    roots.place(str(tmp_path))
    return ByteReader(roots)


def test_bytes_are_read_and_checked(tmp_path, reader):
    (tmp_path / "a.tar").write_bytes(b"....one..two")
    (tmp_path / "d").mkdir()
    (tmp_path / "d/x.jpg").write_bytes(b"three")
    assert reader.read(row(b"one", source="a.tar", offset=4)) == b"one"
    assert reader.read(row(b"two", source="a.tar", offset=9)) == b"two"
    assert reader.read(row(b"three", path="d/x.jpg")) == b"three"
    for wrong in (row(b"two", source="a.tar", offset=4), row(b"other", path="d/x.jpg")):
        with pytest.raises(DataError, match="no longer holds the image that was indexed"):
            reader.read(wrong)
    for lost in (
        row(b"one", source="b.tar", offset=4),
        row(b"x", path="y.jpg"),
    ):
        with pytest.raises(DataError, match="cannot be read from") as caught:
            reader.read(lost)
        assert "--pool-root" in caught.value.hint
        assert "build-index --pool NEW" in caught.value.hint
    with pytest.raises(DataError, match="is cut off or was replaced") as caught:
        reader.read(row(b"more", source="a.tar", offset=9))
    assert "moved" not in caught.value.hint and "restore this file" in caught.value.hint
    with pytest.raises(DataError, match="Is a directory") as caught:
        reader.read(row(b"x", path="d"))
    assert "moved" not in caught.value.hint


def test_many_tars_and_threads(tmp_path, reader, monkeypatch):
    from curate.index import bytes as module

    monkeypatch.setattr(module, "_OPEN_TARS", 3)
    rows = []
    for number in range(12):
        (tmp_path / f"{number}.tar").write_bytes(b"#" * number + f"image {number}".encode())
        rows.append(row(f"image {number}".encode(), source=f"{number}.tar", offset=number))
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for number in np.random.default_rng(seed).integers(0, 12, 200).tolist():
                assert reader.read(rows[number]) == f"image {number}".encode()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
