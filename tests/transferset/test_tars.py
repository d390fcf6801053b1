import errno
import io
import os
import tarfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from transferset.errors import DataError
from transferset.tars import Member, TarReader, group_samples, scan, scan_file

WriteTar = Callable[[Path, Mapping[str, bytes]], Path]
FILES = {
    f"{number:04d}.{end}": bytes([number]) * (100 + 700 * number)
    for number in range(5)
    for end in ("jpg", "json")
}


def test_every_members_bytes_are_where_it_says(tmp_path: Path, write_tar: WriteTar) -> None:
    path = write_tar(tmp_path / "a.tar", {**FILES, "empty.txt": b""})
    found = scan(path)
    assert found.error is None
    with TarReader(path) as reader:
        assert {m.name: reader.read(m.offset, m.size) for m in found.members} == {**FILES, "empty.txt": b""}


def test_long_unicode_and_pax_names(tmp_path: Path) -> None:
    names = ["d" * 150 + "/" + "n" * 140 + ".jpg", "grün/ü 漢字.jpg", "with\nnewline.jpg"]
    for number, form in enumerate((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)):
        path = tmp_path / f"{number}.tar"
        with tarfile.open(path, "w", format=form) as tar:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = len(name)
                tar.addfile(info, io.BytesIO(b"x" * len(name)))
        members = scan(path).members
        assert [member.name for member in members] == names
        with TarReader(path) as reader:
            assert all(set(reader.read(m.offset, m.size)) == {ord("x")} for m in members)


def test_only_regular_files_are_members(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo(f"special-{kind!r}.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        tar.addfile(tarfile.TarInfo("plain.jpg"))
    assert [member.name for member in scan(path).members] == ["plain.jpg"]


def test_a_tar_that_is_cut_off_gives_what_is_whole(tmp_path: Path, write_tar: WriteTar) -> None:
    whole = write_tar(tmp_path / "whole.tar", FILES)
    members = scan(whole).members
    data = whole.read_bytes()
    cut = tmp_path / "cut.tar"
    last = members[-1]
    for end in range(600, last.offset + last.size + 1, 211):
        cut.write_bytes(data[:end])
        found = scan(cut)
        assert found.error and "cut off" in found.error, end
        assert list(found.members) == [m for m in members if m.offset + m.size <= end], end


class _BadDisk(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        if self.tell() > 3_000:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().read(size)


def test_a_disk_that_fails_in_the_middle_is_no_damage(tmp_path: Path, write_tar: WriteTar) -> None:
    path = write_tar(tmp_path / "a.tar", FILES)
    with pytest.raises(OSError, match="Input/output error"):
        scan_file(_BadDisk(path.read_bytes()), "a.tar")


@pytest.mark.parametrize("size", [1 << 40, 1 << 62, (1 << 63) - 10, 1 << 80])
@pytest.mark.parametrize(
    "kind",
    [
        tarfile.REGTYPE,
        b"V",
        tarfile.GNUTYPE_SPARSE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
    ],
)
def test_a_size_that_no_file_has_is_damage(
    tmp_path: Path, write_tar: WriteTar, size: int, kind: bytes
) -> None:
    path = write_tar(tmp_path / "a.tar", {"a.jpg": b"one"})
    info = tarfile.TarInfo("b.jpg")
    info.size, info.type = size, kind
    path.write_bytes(path.read_bytes()[:1024] + info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    found = scan(path)
    assert found.error and "cut off" in found.error
    assert [member.name for member in found.members] == ["a.jpg"]
    if kind not in (tarfile.REGTYPE, b"V", tarfile.GNUTYPE_SPARSE):
        path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
        with pytest.raises(DataError, match="not a readable tar: a header of"):
            scan(path)


def test_damage_in_the_middle_is_told(tmp_path: Path, write_tar: WriteTar) -> None:
    path = write_tar(tmp_path / "a.tar", FILES)
    members = scan(path).members
    data = bytearray(path.read_bytes())
    data[members[4].offset - 512 + 10] ^= 0xFF
    path.write_bytes(data)
    found = scan(path)
    assert found.error and "damaged" in found.error
    assert found.members == members[:4]


def test_a_header_that_points_backwards_ends_the_scan(tmp_path: Path, write_tar: WriteTar) -> None:
    path = write_tar(tmp_path / "a.tar", FILES)
    members = scan(path).members
    data = bytearray(path.read_bytes())
    start = members[2].offset - 512
    header = data[start : start + 512]
    header[124:136] = b"\xff" + (-2048 % 256**11).to_bytes(11, "big")  # base-256: minus four blocks
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    data[start : start + 512] = header
    path.write_bytes(data)
    found = scan(path)
    assert found.error and found.members == members[:2]


@pytest.mark.parametrize("content", [b"", b"x" * 5000, b"\x1f\x8b\x08\0" + b"z" * 600, b"short"])
def test_what_is_no_tar_is_bad_data(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a readable tar"):
        scan(path)


def test_a_missing_tar_is_bad_data(tmp_path: Path) -> None:
    for call in (scan, TarReader):
        with pytest.raises(DataError, match="No such file"):
            call(tmp_path / "a.tar")


def test_an_empty_tar_has_no_members(tmp_path: Path, write_tar: WriteTar) -> None:
    assert scan(write_tar(tmp_path / "a.tar", {})).members == ()


def test_samples_follow_webdatasets_rule() -> None:
    names = [
        "a/1.jpg",
        "a/1.JSON",
        "2.seg.png",
        "a/2.jpg",
        "b.c/3.jpg",
        "2.txt",
        "README",
        ".hidden.jpg",
        "__m__",
        "x.",
    ]
    samples = group_samples(Member(name, number, 1) for number, name in enumerate(names))
    assert {s.key: {end: m.offset for end, m in s.members.items()} for s in samples} == {
        "a/1": {"jpg": 0, "json": 1},
        "2": {"seg.png": 2, "txt": 5},
        "a/2": {"jpg": 3},
        "b.c/3": {"jpg": 4},
    }
    assert [s.key for s in samples] == ["a/1", "2", "a/2", "b.c/3"]


def test_samples_are_the_ones_that_webdataset_finds(tmp_path: Path, write_tar: WriteTar) -> None:
    import webdataset as wds

    files = {"a/1.jpg": b"1", "a/1.json": b"{}", "2.seg.png": b"2", "2.txt": b"t", "c.d/3.JPG": b"3"}
    path = write_tar(tmp_path / "a.tar", files)
    theirs = {
        sample["__key__"]: sorted(name for name in sample if not name.startswith("__"))
        for sample in wds.WebDataset(str(path), shardshuffle=False)
    }
    assert {s.key: sorted(s.members) for s in group_samples(scan(path).members)} == theirs


def test_of_two_members_with_one_name_the_later_counts() -> None:
    (sample,) = group_samples([Member("a.jpg", 0, 1), Member("a.jpg", 1024, 2)])
    assert sample.members == {"jpg": Member("a.jpg", 1024, 2)}


def test_reading_past_the_end_and_from_threads(tmp_path: Path, write_tar: WriteTar) -> None:
    path = write_tar(tmp_path / "a.tar", FILES)
    members = scan(path).members
    with TarReader(path) as reader:
        with ThreadPoolExecutor(4) as pool:
            read = list(pool.map(lambda m: reader.read(m.offset, m.size), members * 20))
        assert read == [FILES[member.name] for member in members] * 20
        with pytest.raises(DataError, match="cut off or was replaced"):
            reader.read(path.stat().st_size - 10, 20)
    reader.close()


def test_real_tars_are_whole(pool_tars: list[Path]) -> None:
    found = scan(pool_tars[0])
    samples = group_samples(found.members)
    assert found.error is None and len(samples) == 4000
    with TarReader(pool_tars[0]) as reader:
        image = samples[-1].members["jpg"]
        assert reader.read(image.offset, image.size).startswith(b"\xff\xd8")
