import errno
import json
import os
from pathlib import Path

import pytest

from curate.pools import PartReader, PlannedPart, Roots, Source
from curate.pools.tar_images import count_images, scan_source
from transferset.errors import DataError, InterruptedRun, OpenFilesError


@pytest.fixture
def open_part(tmp_path):
    def make(*names: str) -> PartReader:
        roots = Roots(tmp_path / "index")
        number, _ = roots.place(str(tmp_path))
        sources = tuple(Source(number, name, (tmp_path / name).stat().st_size, 0) for name in names)
        return PartReader(PlannedPart(sources, 0), roots)

    return make


def test_a_tar_in_any_member_order_with_dots_in_keys(tmp_path, write_tar, open_part):
    write_tar(
        tmp_path / "a.tar",
        {
            "01.json": b'{"url": "http://x/1"}',
            "d/02.v1.txt": b"second",
            "01.txt": b"first",
            "d/02.v1.JPG": b"two",
            "d/02.v2.jpg": b"twob",
            "01.jpg": b"one",
            "03.webp": b"three",
            "04.cls": b"7",
            "._01.jpg": b"resource fork",
            "d/02.json": b'{"of": "both"}',
        },
    )
    with open_part("a.tar") as reader:
        items = list(reader.items())
        read = [reader.read(item) for item in items]
    assert [item.key for item in items] == ["d/02.v1", "d/02.v2", "01", "03"]
    assert read == [b"two", b"twob", b"one", b"three"]
    assert [item.caption for item in items] == ["second", None, "first", None]
    assert [item.url for item in items] == [None, None, "http://x/1", None]
    assert [item.extra for item in items] == ['{"of":"both"}', '{"of":"both"}', None, None]
    assert reader.images == [4]
    assert reader.problems == []
    assert count_images(tmp_path / "a.tar") == 4


def test_img2dataset_output_as_it_is(pool_tars, open_part, tmp_path):
    (tmp_path / "link.tar").symlink_to(pool_tars[0])
    with open_part("link.tar") as reader:
        items = list(reader.items())
        assert len(reader.read(items[5])) == items[5].size
    assert len(items) == count_images(pool_tars[0]) == 4000
    assert items[0].key == "000000000"
    assert "sha256" in json.loads(items[0].extra or "")
    assert sum(item.caption is not None for item in items) >= 100
    assert reader.problems == []


def test_a_tar_that_is_cut_off_keeps_what_is_whole(tmp_path, write_tar, open_part):
    path = write_tar(tmp_path / "a.tar", {"1.jpg": b"x" * 600, "2.jpg": b"y" * 600})
    path.write_bytes(path.read_bytes()[:2000])
    with open_part("a.tar") as reader:
        assert [item.key for item in reader.items()] == ["1"]
    assert [problem.kind for problem in reader.problems] == ["source"]
    assert "cut off" in reader.problems[0].reason


@pytest.mark.parametrize("data", [b"", b"not a tar" * 100])
def test_what_is_no_tar_is_a_problem(tmp_path, open_part, data):
    (tmp_path / "a.tar").write_bytes(data)
    with open_part("a.tar") as reader:
        assert list(reader.items()) == []
    assert [problem.kind for problem in reader.problems] == ["source"]
    assert str(tmp_path) not in reader.problems[0].reason


def test_damaged_metadata_is_a_problem_and_the_image_stays(tmp_path, write_tar, open_part):
    write_tar(
        tmp_path / "a.tar", {"1.jpg": b"x", "1.json": b"{", "2.jpg": b"y", "2.txt": b"t" * (1 << 20 | 1)}
    )
    with open_part("a.tar") as reader:
        assert [item.key for item in reader.items()] == ["1", "2"]
    assert [(problem.kind, problem.key) for problem in reader.problems] == [
        ("metadata", "1"),
        ("metadata", "2"),
    ]


def test_loose_files_with_sidecars(tmp_path, open_part):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a.jpg").write_bytes(b"one")
    (tmp_path / "d/a.txt").write_bytes(b"caption")
    (tmp_path / "d/a.json").write_bytes(b'{"url": "http://x"}')
    (tmp_path / "b.v2.png").write_bytes(b"two")
    with open_part("d/a.jpg", "b.v2.png") as reader:
        items = list(reader.items())
        assert [reader.read(item) for item in items] == [b"one", b"two"]
    assert [(item.key, item.caption, item.url, item.offset) for item in items] == [
        ("d/a", "caption", "http://x", None),
        ("b.v2", None, None, None),
    ]


def test_a_file_that_went_away_is_an_error_of_its_own(tmp_path, open_part):
    (tmp_path / "a.jpg").write_bytes(b"one")
    (tmp_path / "b.jpg").write_bytes(b"two")
    with open_part("a.jpg", "b.jpg") as reader:
        items = list(reader.items())
        (tmp_path / "a.jpg").unlink()
        with pytest.raises(DataError, match="cannot be read: No such file"):
            reader.read(items[0])
        assert reader.read(items[1]) == b"two"


def test_a_gigantic_file_is_not_read(tmp_path, open_part):
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(1 << 40)
    with open_part("a.jpg") as reader:
        (item,) = reader.items()
        with pytest.raises(DataError, match="too large: 1099511627776 bytes"):
            reader.read(item)


@pytest.mark.parametrize("end", ["/dev/zero", "pipe"])
def test_devices_and_pipes_are_not_read(tmp_path, open_part, write_tar, end):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a.jpg").write_bytes(b"one")
    (tmp_path / "a.json").symlink_to(end)
    write_tar(tmp_path / "b.tar", {"b.jpg": b"two"})
    (tmp_path / "b.parquet").symlink_to(end)
    with open_part("a.jpg", "b.tar") as reader:
        items = list(reader.items())
        assert [reader.read(item) for item in items] == [b"one", b"two"]
        (tmp_path / "a.jpg").unlink()
        (tmp_path / "a.jpg").symlink_to(end)
        with pytest.raises(DataError, match="not a regular file"):
            reader.read(items[0])
    found = [(problem.kind, problem.reason) for problem in reader.problems]
    assert found == [("metadata", "not a regular file"), ("metadata", "b.parquet: not a regular file")]


def test_a_file_that_grew_beyond_the_limit_is_not_read(tmp_path, open_part):
    (tmp_path / "a.jpg").write_bytes(b"one")
    with open_part("a.jpg") as reader:
        items = list(reader.items())
        with (tmp_path / "a.jpg").open("wb") as file:
            file.truncate((1 << 30) + 1)
        with pytest.raises(DataError, match="too large"):
            reader.read(items[0])


def test_a_pool_that_went_away_stops_the_run(tmp_path, open_part):
    (tmp_path / "a.jpg").write_bytes(b"one")
    with open_part("a.jpg") as reader:
        items = list(reader.items())
        (tmp_path / "a.jpg").unlink()
        with pytest.raises(InterruptedRun, match="cannot be read"):
            reader.read(items[0])


def test_a_failing_disk_is_told_apart_from_a_bad_tar(tmp_path, monkeypatch):
    from transferset import tars

    def fail(*arguments, **options):
        raise OSError(errno.EIO, "Input/output error")

    (tmp_path / "a.tar").write_bytes(bytes(10240))
    monkeypatch.setattr(tars.tarfile, "open", fail)
    with pytest.raises(InterruptedRun, match="Input/output error"):
        scan_source(tmp_path / "a.tar")


@pytest.mark.parametrize("suffix", [".json", ".txt", ".parquet"])
@pytest.mark.parametrize("kind", ["jpg", "tar"])
def test_a_disk_that_fails_at_a_sidecar_stops_the_run(
    tmp_path, open_part, write_tar, monkeypatch, suffix, kind
):
    (tmp_path / "a.jpg").write_bytes(b"one")
    write_tar(tmp_path / "a.tar", {"a.jpg": b"one"})
    (tmp_path / f"a{suffix}").touch()
    monkeypatch.setattr(Path, "open", _failing(Path.open, suffix, errno.EACCES))
    with open_part(f"a.{kind}") as reader:
        assert [item.caption for item in reader.items()] == [None]
    if (suffix == ".parquet") != (kind == "tar"):
        return
    monkeypatch.setattr(Path, "open", _failing(Path.open, suffix, errno.ESTALE))
    with open_part(f"a.{kind}") as reader, pytest.raises(InterruptedRun, match="Stale"):
        list(reader.items())
    monkeypatch.setattr(Path, "open", _failing(Path.open, suffix, errno.EMFILE))
    with open_part(f"a.{kind}") as reader, pytest.raises(OpenFilesError):
        list(reader.items())


def _failing(real, suffix, code):
    def fail(path, *arguments, **options):
        if path.suffix == suffix:
            raise OSError(code, os.strerror(code), str(path))
        return real(path, *arguments, **options)

    return fail


def test_many_small_tars_do_not_exhaust_open_files(tmp_path, write_tar, open_part, monkeypatch):
    from curate.pools import reader as module

    monkeypatch.setattr(module, "_OPEN_TARS", 2)
    names = [f"{number}.tar" for number in range(5)]
    for name in names:
        write_tar(tmp_path / name, {"x.jpg": name.encode()})
    with open_part(*names) as reader:
        items = list(reader.items())
        assert [reader.read(item) for item in items] == [name.encode() for name in names]


def test_what_the_webdataset_library_writes(tmp_path, open_part, picture, encode):
    """Its own writer: captions for some, classes, metadata, three formats, keys with folders and dots."""
    import webdataset

    formats = ("jpg", "png", "webp")
    images = [
        encode(picture(30, 20, seed=n), {"jpg": "jpeg"}.get(formats[n % 3], formats[n % 3])) for n in range(6)
    ]
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as writer:
        for number, data in enumerate(images):
            sample = {"__key__": f"d/{number:03d}", formats[number % 3]: data, "cls": number}
            if number % 2:
                sample["txt"] = f"caption {number}"
            if number == 4:
                sample["json"] = {"url": "http://x/4", "licence": "CC0"}
            writer.write(sample)
    with open_part("a.tar") as reader:
        items = list(reader.items())
        assert [reader.read(item) for item in items] == images
    assert [item.key for item in items] == [f"d/{number:03d}" for number in range(6)]
    assert [item.caption for item in items] == [None, "caption 1", None, "caption 3", None, "caption 5"]
    assert (items[4].url, items[4].extra) == ("http://x/4", '{"licence":"CC0"}')
    assert reader.problems == []


def test_metadata_of_a_key_with_dots_belongs_to_its_own_image_first(tmp_path, write_tar, open_part):
    members = {
        "a.left.txt": b"left",
        "a.right.jpg": b"1",
        "a.left.jpg": b"2",
        "a.txt": b"both",
        "b.c.d.PNG": b"3",
        "b.c.d.json": b'{"caption": "deep"}',
    }
    write_tar(tmp_path / "a.tar", members)
    with open_part("a.tar") as reader:
        items = list(reader.items())
    assert {item.key: item.caption for item in items} == {
        "a.right": "both",
        "a.left": "left",
        "b.c.d": "deep",
    }
