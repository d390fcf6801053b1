from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curate.selection import guard as module
from curate.selection.guard import LeakageGuard, load_excluded
from transferset import copies
from transferset.copies import item_id, perceptual_hash
from transferset.errors import DataError, UsageError
from transferset.images import decode

Make = Callable[..., Any]


@dataclass(frozen=True)
class _Item:
    data: bytes
    width: int
    height: int
    perceptual_hash: int


class _Images:
    """The image side of an index: encoded images by position, hashed as `build-index` does."""

    def __init__(self, images: Sequence[bytes], short_side: int | None = None) -> None:
        self.reads = 0
        self._items = []
        for data in images:
            full, reduced = decode(data), decode(data, short_side=short_side)
            self._items.append(_Item(data, full.shape[1], full.shape[0], perceptual_hash(reduced)))

    def find(self, item_id_: bytes) -> int | None:
        return next((n for n, item in enumerate(self._items) if item_id(item.data) == item_id_), None)

    def items(self, positions: np.ndarray) -> list[_Item]:
        return [self._items[position] for position in positions.tolist()]

    def read_bytes(self, item: _Item) -> bytes:
        self.reads += 1
        return item.data


def _names(hits: list[tuple[int, Any]]) -> list[tuple[int, str]]:
    return sorted((position, image.name) for position, image in hits)


def test_exact_copies_are_found_in_folders_of_any_depth(tmp_path: Path, picture: Make, encode: Make) -> None:
    images = [encode(picture(seed=seed)) for seed in range(4)]
    (tmp_path / "test" / "deep" / "er").mkdir(parents=True)
    (tmp_path / "test" / "deep" / "er" / "x.JPG").write_bytes(images[2])
    (tmp_path / "test" / "new.jpg").write_bytes(encode(picture(seed=9)))
    guard = LeakageGuard(load_excluded([tmp_path / "test"]), _Images(images))
    assert _names(guard.exact_copies()) == [(2, "test/deep/er/x.JPG")]


def test_a_list_or_a_word_for_lists_stands_for_its_images(
    tmp_path: Path, picture: Make, encode: Make
) -> None:
    images = [encode(picture(seed=seed)) for seed in range(3)]
    (tmp_path / "photos").mkdir()
    for number, data in enumerate(images):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(data)
    test = tmp_path / "test.txt"
    test.write_text("photos/1.jpg,dog\n")
    guard = LeakageGuard(load_excluded([test]), _Images(images))
    assert _names(guard.exact_copies()) == [(1, f"{tmp_path.name}/photos/1.jpg")]
    test.write_text("2.jpg,dog\n")
    guard = LeakageGuard(load_excluded([Path(f"all={test},root={tmp_path / 'photos'}")]), _Images(images))
    assert _names(guard.exact_copies()) == [(2, "photos/2.jpg")]


def test_a_list_of_images_that_are_not_there_is_no_protection(tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("missing.jpg,dog\n")
    with pytest.raises(DataError, match="not there") as error:
        load_excluded([tmp_path / "test.txt"])
    assert f"all={tmp_path / 'test.txt'},root=FOLDER" in str(error.value.hint)
    for missing in (tmp_path / "no.txt", Path(f"test={tmp_path / 'no.txt'}")):
        with pytest.raises(UsageError):
            load_excluded([missing])


@pytest.mark.parametrize("short_side", [None, 40])
def test_the_same_pixels_in_another_file_are_found(
    tmp_path: Path, picture: Make, encode: Make, short_side: int | None
) -> None:
    originals = [encode(picture(200, 160, seed=seed), quality=90) for seed in range(6)]
    (tmp_path / "a.png").write_bytes(encode(decode(originals[1]), "png"))
    with_comment = encode(Image.fromarray(picture(200, 160, seed=3)), quality=90, comment=b"hello")
    (tmp_path / "b.jpg").write_bytes(with_comment)
    guard = LeakageGuard(load_excluded([tmp_path]), _Images(originals, short_side), short_side)
    assert guard.exact_copies() == []
    found = _names(guard.same_pixels(np.arange(6)))
    assert found == [(1, f"{tmp_path.name}/a.png"), (3, f"{tmp_path.name}/b.jpg")]
    assert guard.same_pixels(np.arange(6)) == [], "what was compared once is not compared again"


def test_images_above_the_usual_limit_of_pixels_are_compared_too(
    tmp_path: Path, picture: Make, encode: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in (module, copies):
        monkeypatch.setattr(one, "decode", partial(decode, max_pixels=1_000))  # the usual limit, made small
    original = encode(picture(200, 160))
    (tmp_path / "a.png").write_bytes(encode(decode(original), "png"))
    excluded = load_excluded([tmp_path], max_pixels=40_000)
    guard = LeakageGuard(excluded, _Images([original], 40), 40, max_pixels=40_000)
    assert _names(guard.same_pixels(np.arange(1))) == [(0, f"{tmp_path.name}/a.png")]


def test_a_picture_stored_rotated_is_the_picture_that_is_shown(
    tmp_path: Path, picture: Make, encode: Make
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encode(np.rot90(picture(80, 60), 1).copy(), "png", exif=exif)
    (tmp_path / "plain.png").write_bytes(encode(picture(80, 60), "png"))
    guard = LeakageGuard(load_excluded([tmp_path]), _Images([turned]))
    assert _names(guard.same_pixels(np.array([0]))) == [(0, f"{tmp_path.name}/plain.png")]


def test_alike_is_not_the_same(tmp_path: Path, picture: Make, encode: Make) -> None:
    pixels = picture(96, 96, seed=1)
    nearly = pixels.copy()
    nearly[50, 50, 0] ^= 1
    pool = _Images([encode(nearly, "png"), encode(pixels, quality=60), encode(pixels[:90, :90], "png")])
    (tmp_path / "x.png").write_bytes(encode(pixels, "png"))
    guard = LeakageGuard(load_excluded([tmp_path]), pool)
    assert guard.same_pixels(np.arange(3)) == []
    assert pool.reads == 2, "only images of the same size are worth decoding"


def test_a_damaged_excluded_image_is_compared_by_its_bytes(
    tmp_path: Path, picture: Make, encode: Make
) -> None:
    good = encode(picture())
    (tmp_path / "cut.jpg").write_bytes(good[:-30])
    (tmp_path / "empty.jpg").write_bytes(b"")
    excluded = load_excluded([tmp_path])
    assert [image.name for image in excluded.unreadable] == [f"{tmp_path.name}/empty.jpg"]
    guard = LeakageGuard(excluded, _Images([good]))
    assert guard.exact_copies() == [] and guard.same_pixels(np.array([0])) == []


def test_the_digest_is_of_the_images_and_not_of_their_place(
    tmp_path: Path, encode: Make, picture: Make
) -> None:
    for folder, names in (("one", ["a.png", "b.png"]), ("two/sub", ["y.png", "x.png"])):
        (tmp_path / folder).mkdir(parents=True)
        for seed, name in enumerate(names):
            (tmp_path / folder / name).write_bytes(encode(picture(seed=seed), "png"))
    one, two = load_excluded([tmp_path / "one"]), load_excluded([tmp_path / "two", tmp_path / "one"])
    assert one.digest == two.digest
    (tmp_path / "one" / "c.png").write_bytes(encode(picture(seed=5), "png"))
    assert load_excluded([tmp_path / "one"]).digest != one.digest


def test_a_mistyped_folder_is_no_protection(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a folder nor a list"):
        load_excluded([tmp_path / "tset"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image"):
        load_excluded([tmp_path / "empty"])


def test_links_are_followed_and_loops_are_not(tmp_path: Path, picture: Make, encode: Make) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x.png").write_bytes(encode(picture(), "png"))
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "test")
    assert [image.name for image in load_excluded([tmp_path / "test"]).images] == ["test/link/x.png"]
