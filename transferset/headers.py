"""What the first bytes of an image say: format, size and EXIF orientation, read without decoding.

Parsers of our own, because they must not allocate, warn or trust anything: they see every file of a pool.
Each raises ValueError with a short reason; `transferset.images` turns that into an ImageError.
"""

import re
import struct
from dataclasses import dataclass
from typing import Literal

from transferset.jpeg_scans import MOST_SEGMENTS

ImageFormat = Literal["jpeg", "png", "webp"]


@dataclass(frozen=True)
class RawHeader:
    """Size as stored (before EXIF orientation), orientation 1-8, and for a JPEG its channels and bits of
    each."""

    format: ImageFormat
    width: int
    height: int
    orientation: int = 1
    channels: int = 0
    bits: int = 8


_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"GIF8", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"\x00\x00\x00\x0cJXL ", "jpeg xl"),
    (b"\xff\x0a", "jpeg xl"),
    (b"\x00\x00\x00\x0cjP  ", "jpeg 2000"),
    (b"\xff\x4f\xff\x51", "jpeg 2000"),
    (b"8BPS", "psd"),
    (b"\x00\x00\x01\x00", "ico"),
    (b"%PDF", "pdf"),
    (b"<svg", "svg"),
)
_ISO_BRANDS = {
    b"avif": "avif",
    b"avis": "avif",
    b"heic": "heic",
    b"heix": "heic",
    b"mif1": "heif",
    b"msf1": "heif",
}
_FILL = re.compile(rb"\xff+")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def parse_header(data: bytes) -> RawHeader:
    """The header of a JPEG, PNG or WebP, told by its magic bytes. ValueError says in a few words what is
    wrong."""
    if not data:
        raise ValueError("empty")
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    if data.startswith(_PNG_SIGNATURE):
        return _png(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp(data)
    raise ValueError(_unsupported(data))


def _unsupported(data: bytes) -> str:
    if data[4:8] == b"ftyp" and data[8:12] in _ISO_BRANDS:
        return f"unsupported format {_ISO_BRANDS[data[8:12]]}"
    for magic, name in _OTHERS:
        if data.startswith(magic):
            return f"unsupported format {name}"
    if re.match(rb"\s*(<\?xml[^>]*>\s*)?(<!DOCTYPE svg|<svg)", data[:1024]):
        return "unsupported format svg"
    return "not an image"


def exif_orientation(tiff: bytes) -> int:
    """Orientation (1-8) out of an EXIF block that starts with its TIFF header; 1 where it is absent or
    damaged."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return 1
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    if start + 2 > len(tiff):
        return 1
    (entries,) = struct.unpack_from(order + "H", tiff, start)
    for entry in range(start + 2, min(start + 2 + 12 * entries, len(tiff) - 11), 12):
        tag, kind = struct.unpack_from(order + "HH", tiff, entry)
        if tag == 0x0112:
            (value,) = struct.unpack_from(order + ("H" if kind == 3 else "I"), tiff, entry + 8)
            return value if 1 <= value <= 8 else 1
    return 1


def _jpeg(data: bytes) -> RawHeader:
    position, orientation = 2, 1
    for _ in range(MOST_SEGMENTS):
        if (fill := _FILL.match(data, position)) is not None:
            position = fill.end() - 1
        if position + 4 > len(data):
            raise ValueError("truncated")
        if data[position] != 0xFF:
            raise ValueError("damaged: no JPEG marker where one is expected")
        marker = data[position + 1]
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            position += 2
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        body = position + 4
        if marker == 0xE1 and data[body : body + 6] == b"Exif\0\0" and orientation == 1:
            orientation = exif_orientation(data[body + 6 : position + 2 + length])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if body + 6 > len(data):
                raise ValueError("truncated")
            bits, height, width, channels = struct.unpack_from(">BHHB", data, body)
            return RawHeader("jpeg", width, height, orientation, channels, bits)
        if marker in (0xD9, 0xDA) or length < 2:
            raise ValueError("damaged: a JPEG without a frame header")
        position += 2 + length
    raise ValueError(f"damaged: no frame header among {MOST_SEGMENTS} JPEG segments")


def _png(data: bytes) -> RawHeader:
    if len(data) < 33:
        raise ValueError("truncated")
    if data[12:16] != b"IHDR":
        raise ValueError("damaged: a PNG without IHDR")
    width, height = struct.unpack_from(">II", data, 16)
    orientation, position = 1, 33
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"eXIf":
            orientation = exif_orientation(data[position + 8 : position + 8 + length])
            break
        if kind == b"IEND":
            break
        position += 12 + length
    return RawHeader("png", width, height, orientation, bits=data[24])


def _webp(data: bytes) -> RawHeader:
    if len(data) < 30:
        raise ValueError("truncated")
    kind, orientation = data[12:16], 1
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    elif kind == b"VP8L" and data[20] == 0x2F:
        (packed,) = struct.unpack_from("<I", data, 21)
        width, height = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    elif kind == b"VP8X":
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        orientation = _webp_orientation(data)
    else:
        raise ValueError("damaged: a WebP without a frame header")
    return RawHeader("webp", width, height, orientation)


def _webp_orientation(data: bytes) -> int:
    position = 12
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        if kind == b"EXIF":
            return exif_orientation(data[position + 8 : position + 8 + length].removeprefix(b"Exif\0\0"))
        position += 8 + length + length % 2
    return 1
