import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distill.data.samples import ImageReader, join, samples_of_files
from transferset.copies import item_id
from transferset.errors import DataError
from transferset.writes import read_json


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


def test_an_unreadable_sample_is_replaced_by_the_next_and_told(files: list[Path], tmp_path: Path) -> None:
    files[1].write_bytes(files[1].read_bytes()[:-40])
    files[2].write_bytes(b"")
    record = tmp_path / "unreadable.json"
    reader = ImageReader(samples_of_files(files), None, record=record)
    assert [reader.image(place).index for place in range(5)] == [0, 3, 3, 3, 4]
    assert set(reader.dropped) == {str(files[1]), str(files[2])}
    assert "truncated" in reader.dropped[str(files[1])] and reader.dropped[str(files[2])]
    assert read_json(record) == reader.dropped
    assert ImageReader(samples_of_files(files), None, record=record).dropped == reader.dropped


def test_the_last_sample_is_replaced_by_the_first(files: list[Path]) -> None:
    files[4].unlink()
    assert ImageReader(samples_of_files(files), None).image(4).index == 0


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
    assert reader.image(0).index == 1
    assert "item id" in next(iter(reader.dropped.values()))


def test_the_cache_is_bounded_and_changes_nothing(files: list[Path]) -> None:
    cached = ImageReader(samples_of_files(files), None, cache_bytes=2 * 48 * 64 * 3)
    plain = ImageReader(samples_of_files(files), None)
    for _ in range(2):
        assert all(np.array_equal(cached.image(i).rgb, plain.image(i).rgb) for i in range(5))
    files[0].unlink()
    files[4].unlink()
    assert cached.image(0).index == 0 and cached.image(4).index == 0


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
    assert found == [[0, 1, 3, 3, 4] * 10] * 6


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
