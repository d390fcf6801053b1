import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distill.data import samples as samples_module
from distill.data.samples import GoneError, ImageReader, join, samples_of_files
from tests.conftest import FewFiles
from transferset.copies import item_id
from transferset.errors import DataError, OpenFilesError
from transferset.writes import read_json, write_json


@pytest.fixture
def files(tmp_path: Path, picture: Callable[..., np.ndarray], encode: Callable[..., bytes]) -> list[Path]:
    paths = [tmp_path / f"{number}.jpg" for number in range(5)]
    for number, path in enumerate(paths):
        path.write_bytes(encode(picture(64, 48, number)))
    return paths


def test_images_come_with_their_id(files: list[Path]) -> None:
    reader = ImageReader(samples_of_files(files), None)
    decoded = reader.image(3)
    assert decoded.index == 3 and decoded.rgb.shape == (48, 64, 3)
    assert decoded.item_id == item_id(files[3].read_bytes())


def test_an_unreadable_sample_is_replaced_by_another_and_told(files: list[Path], tmp_path: Path) -> None:
    files[1].write_bytes(files[1].read_bytes()[:-40])
    files[2].write_bytes(b"")
    files[4].unlink()
    record = tmp_path / "unreadable.json"
    reader = ImageReader(samples_of_files(files), None, record=record)
    found = [reader.image(place).index for place in range(5)]
    assert found[0] == 0 and found[3] == 3 and set(found) <= {0, 3}
    assert [reader.image(place).index for place in (4, 3, 2, 1, 0)] == found[::-1], "whatever the order"
    assert set(reader.dropped) == {str(files[place]) for place in (1, 2, 4)}
    assert "truncated" in reader.dropped[str(files[1])] and reader.dropped[str(files[2])]
    reader.flush()
    assert read_json(record) == reader.dropped
    assert ImageReader(samples_of_files(files), None, record=record).dropped == reader.dropped


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images stood in the record each time that it was written."""
    lengths: list[int] = []

    def counting(path: Path, dropped: dict[str, str]) -> None:
        lengths.append(len(dropped))
        write_json(path, dropped)

    monkeypatch.setattr(samples_module, "write_json", counting)
    return lengths


def test_the_record_is_not_written_for_every_unreadable_image(
    tmp_path: Path, written: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [tmp_path / f"{number}.jpg" for number in range(300)]
    for path in many:
        path.write_bytes(b"no image")
    record = tmp_path / "unreadable.json"
    reader = ImageReader(samples_of_files(many), None, record=record)
    assert not reader.check(range(200))
    assert written == [1], "the first at once"
    reader.flush()
    reader.flush()
    assert written == [1, 200] and read_json(record) == reader.dropped
    monkeypatch.setattr(samples_module, "_RECORD_SECONDS", 0.0)
    reader.flush()
    assert not reader.check([200, 201]) and written == [1, 200, 201, 202], "then every few seconds"


def test_what_is_known_to_be_unreadable_is_written_once(
    files: list[Path], tmp_path: Path, written: list[int]
) -> None:
    record, known = tmp_path / "unreadable.json", dict.fromkeys(range(4), "truncated")
    for _ in range(2):  # the second time the record is there
        reader = ImageReader(samples_of_files(files), None, record=record)
        reader.leave_out(known)
        reader.flush()
        assert {reader.image(place).index for place in range(5)} == {4}
    assert written == [4] and read_json(record) == {str(path): "truncated" for path in files[:4]}


def test_neighbours_that_are_damaged_together_get_different_images(files: list[Path]) -> None:
    many = [files[0]] * 60 + files[1:] * 15
    files[0].write_bytes(b"")
    found = [ImageReader(samples_of_files(many), None).image(place).index for place in range(60)]
    assert min(found) >= 60 and len(set(found)) > 20


def test_the_only_readable_image_is_found(files: list[Path]) -> None:
    for path in files[1:]:
        path.write_bytes(b"")
    many = files[1:] * 500 + files[:1]
    assert ImageReader(samples_of_files(many), None).image(0).index == 2000


@pytest.mark.parametrize("lost", ["gone", "shorter"])
def test_a_file_that_is_lost_meanwhile_is_never_replaced(files: list[Path], lost: str) -> None:
    reader = ImageReader(samples_of_files(files), None)
    assert reader.image(1).index == 1
    if lost == "gone":
        files[1].unlink()
    else:
        files[1].write_bytes(files[1].read_bytes()[:-40])
    for use in (reader.image, reader.attempt):
        with pytest.raises(GoneError, match=r"1\.jpg") as told:
            use(1)
        assert "put it back" in str(told.value.hint)
    assert not reader.dropped and reader.image(0).index == 0


def test_a_file_that_cannot_be_opened_for_the_limit_has_not_gone(
    files: list[Path], few_files: FewFiles
) -> None:
    reader = ImageReader(samples_of_files(files), None)
    with few_files(0), pytest.raises(OpenFilesError, match=r"1\.jpg: too many open files"):
        reader.image(1)
    assert not reader.dropped and reader.image(1).index == 1


def test_what_could_be_read_before_is_never_replaced(files: list[Path]) -> None:
    reader = ImageReader(samples_of_files(files), None, checked=True).subset(np.arange(5))
    size = files[1].stat().st_size
    files[1].write_bytes(bytes(size))
    with pytest.raises(GoneError, match=r"1\.jpg could be read before and cannot be read now"):
        reader.image(1)


def test_nothing_readable_is_an_error_with_a_reason(files: list[Path]) -> None:
    for path in files:
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match="none of the 5 images can be read"):
        ImageReader(samples_of_files(files), None).image(0)


def test_bytes_that_are_not_the_item_are_dropped(files: list[Path]) -> None:
    samples = samples_of_files(files)
    for row, path in enumerate(files):
        samples.ids[row] = np.frombuffer(item_id(path.read_bytes()), np.uint8)
    data = bytearray(files[0].read_bytes())
    data[-10] ^= 1
    files[0].write_bytes(bytes(data))
    reader = ImageReader(samples, None)
    assert reader.image(0).index != 0
    assert "item id" in next(iter(reader.dropped.values()))


def test_the_cache_is_bounded_and_changes_nothing(files: list[Path]) -> None:
    cached = ImageReader(samples_of_files(files), None, cache_bytes=2 * 48 * 64 * 3)
    plain = ImageReader(samples_of_files(files), None)
    for _ in range(2):
        assert all(np.array_equal(cached.image(i).rgb, plain.image(i).rgb) for i in range(5))
    files[0].unlink()
    files[4].unlink()
    assert cached.image(0).index == 0
    with pytest.raises(GoneError):
        cached.image(4)


def test_many_threads_read_the_same(files: list[Path]) -> None:
    files[2].write_bytes(b"")
    reader = ImageReader(samples_of_files(files), None, cache_bytes=1 << 20)
    found: list[list[int]] = []

    def read() -> None:
        found.append([reader.image(place % 5).index for place in range(50)])

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [found[0]] * 6 and found[0][:2] == [0, 1] and found[0][2] != 2


def test_joined_samples_repeat_the_second_part(files: list[Path]) -> None:
    both = join(samples_of_files(files[:3]), samples_of_files(files[3:]), repeat=3)
    assert len(both) == 9
    assert both.copy.tolist() == [0, 0, 0, 0, 0, 1, 1, 2, 2]
    assert both.repeats.tolist() == [1, 1, 1, 3, 3, 3, 3, 3, 3]
    assert [both.name(i) for i in range(9)] == [str(p) for p in files[:3] + files[3:] * 3]
    assert both.read(8) == files[4].read_bytes()


def test_the_fingerprint_follows_content_and_not_the_folder(files: list[Path], tmp_path: Path) -> None:
    before = samples_of_files(files).fingerprint
    moved = tmp_path / "moved"
    moved.mkdir()
    others = [Path(path.rename(moved / path.name)) for path in files]
    assert samples_of_files(others).fingerprint == before
    assert samples_of_files(others[::-1]).fingerprint != before
    assert samples_of_files(others).subset(np.arange(4)).fingerprint != before
