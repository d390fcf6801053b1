import struct
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from transferset.headers import RawHeader, exif_orientation, parse_header

ORIENTATION = 0x0112


def tiff(order: str, value: int, kind: int = 3, start: int = 8, tag: int = ORIENTATION) -> bytes:
    """An EXIF block with two entries, the second of them `tag` with `value`."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    first = struct.pack(order + "HHI4s", 0x010F, 2, 3, b"ab\0\0")
    second = struct.pack(order + "HHI", tag, kind, 1) + struct.pack(
        order + ("H2x" if kind == 3 else "I"), value
    )
    return (
        mark
        + struct.pack(order + "I", start)
        + b"\0" * (start - 8)
        + struct.pack(order + "H", 2)
        + first
        + second
    )


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])
@pytest.mark.parametrize("value", range(1, 9))
def test_orientation_in_both_byte_orders_and_as_short_or_long(order: str, kind: int, value: int) -> None:
    assert exif_orientation(tiff(order, value, kind)) == value
    assert exif_orientation(tiff(order, value, kind, start=50)) == value


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_senseless_orientations_count_as_upright(value: int) -> None:
    assert exif_orientation(tiff("<", value)) == 1


def test_no_orientation_is_upright() -> None:
    assert exif_orientation(tiff("<", 6, tag=0x0113)) == 1


def test_every_cut_and_every_wrong_offset_is_upright() -> None:
    whole = tiff(">", 6)
    assert exif_orientation(whole) == 6
    assert {exif_orientation(whole[:end]) for end in range(len(whole))} == {1}
    for start in (0, 7, 2**31, 2**32 - 1):
        assert exif_orientation(whole[:4] + struct.pack(">I", start) + whole[8:]) == 1


@pytest.mark.parametrize("format", ["jpeg", "png", "webp"])
def test_the_header_is_enough(
    picture: Callable[..., np.ndarray], encode: Callable[..., bytes], format: str
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 8
    data = encode(picture(70, 50), format, exif=exif)
    header = parse_header(data)
    assert (header.format, header.width, header.height, header.orientation) == (format, 70, 50, 8)


def test_lossless_and_simple_webp_sizes(
    picture: Callable[..., np.ndarray], encode: Callable[..., bytes]
) -> None:
    for options in ({"lossless": True}, {"quality": 50}):
        data = encode(picture(1234, 17), "webp", **options)
        assert data[12:16] in (b"VP8L", b"VP8 ")
        assert parse_header(data) == RawHeader("webp", 1234, 17)


def test_a_jpegs_channels_and_bits(encode: Callable[..., bytes]) -> None:
    for mode, channels in (("L", 1), ("RGB", 3), ("CMYK", 4)):
        header = parse_header(encode(Image.new(mode, (20, 10))))
        assert (header.channels, header.bits) == (channels, 8)


def test_the_thumbnail_inside_exif_is_not_taken_for_the_image(
    picture: Callable[..., np.ndarray], encode: Callable[..., bytes]
) -> None:
    inner = encode(picture(16, 12))
    body = b"Exif\0\0" + tiff("<", 6) + inner
    outer = encode(picture(200, 100))
    data = outer[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + outer[2:]
    assert parse_header(data) == RawHeader("jpeg", 200, 100, 6, 3, 8)
