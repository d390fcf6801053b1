import io
import struct
import time
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from transferset.images import ImageError, decode, read_header
from transferset.jpeg_scans import MOST_SCANS, MOST_SEGMENTS, has_too_many_scans

Picture = Callable[..., np.ndarray]
Encode = Callable[..., bytes]
END = b"\xff\xd9"


def _segment(marker: int, body: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def _grey(side: int, scans: int, between: bytes = b"") -> bytes:
    """A progressive JPEG without any light in it: one scan of the means, then `scans` of all the rest."""
    blocks = (side // 8) ** 2
    lengths = bytes([1] + [0] * 15)
    start = b"\xff\xd8" + _segment(0xDB, b"\0" + b"\1" * 64)
    start += _segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0")
    start += _segment(0xC4, b"\x00" + lengths + b"\0") + _segment(0xC4, b"\x10" + lengths + b"\0")
    means = _segment(0xDA, b"\1\1\0\0\0\0") + b"\0" * (blocks // 8)
    rest = _segment(0xDA, b"\1\1\0\1\x3f\0") + b"\0" * (blocks // 8)
    return start + means + (between + rest) * scans + END


def test_many_scans_are_refused_before_they_are_decoded() -> None:
    assert decode(_grey(64, MOST_SCANS - 1)).shape == (64, 64, 3)
    bomb = _grey(4096, 3_000)
    assert read_header(bomb).width == 4096
    start = time.perf_counter()
    with pytest.raises(ImageError, match="too many scans"):
        decode(bomb)
    with pytest.raises(ImageError, match="too many scans"):
        decode(bomb, short_side=224)
    assert time.perf_counter() - start < 2  # a scan takes 10 ms and more
    with pytest.raises(ImageError, match="too many scans"):
        decode(_grey(64, MOST_SCANS))


@pytest.mark.parametrize(
    "between", [b"\xff" * 9, b"\xff\xd0", b"\xff\x05\x40\x00", _segment(0xE1, b"\xff\xd9")]
)
def test_what_stands_between_scans_hides_none(between: bytes) -> None:
    assert has_too_many_scans(_grey(64, MOST_SCANS, between))
    assert not has_too_many_scans(_grey(64, MOST_SCANS - 1, between))


def test_scans_of_one_channel_each_count_too() -> None:
    one = _segment(0xDA, b"\1\1\0\0\x3f\0")
    start = b"\xff\xd8" + _segment(0xC0, struct.pack(">BHHB", 8, 64, 64, 3) + b"\1\x11\0\2\x11\0\3\x11\0")
    assert has_too_many_scans(start + one * (MOST_SCANS + 1) + END)
    assert not has_too_many_scans(start + one * MOST_SCANS + END)


def test_ordinary_jpegs_and_what_is_in_and_after_them_are_no_matter(picture: Picture, encode: Encode) -> None:
    scans = b"\xff\xda\0\2" * 200
    for progressive in (False, True):
        file = io.BytesIO()
        Image.fromarray(picture(64, 48)).save(file, "JPEG", progressive=progressive, exif=b"Exif\0\0" + scans)
        assert not has_too_many_scans(file.getvalue() + scans)
        assert decode(file.getvalue() + scans).shape == (48, 64, 3)


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xda", b"\xff\xd8" + b"\xff\xc2\0\2" * 3]
)
def test_damage_is_left_to_the_decoder(data: bytes) -> None:
    assert not has_too_many_scans(data)


def test_scans_before_a_cut_count() -> None:
    assert has_too_many_scans(_grey(64, 200)[:-90])


def test_endless_segments_take_no_time() -> None:
    start = time.perf_counter()
    empty = b"\xff\xe0\0\2" * 5_000_000
    with pytest.raises(ImageError, match=f"among {MOST_SEGMENTS} JPEG segments"):
        read_header(b"\xff\xd8" + empty)
    assert has_too_many_scans(_grey(64, 0)[:-2] + empty + b"\xff\xda" * 101)
    assert time.perf_counter() - start < 2
