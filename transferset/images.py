"""Decoding of JPEG, PNG and WebP from bytes that nobody vouches for.

The format is told by magic bytes, sizes are limited before anything is decoded, and whatever a codec throws
at a damaged file comes out as an ImageError with a short reason.
"""

import io
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from transferset.errors import DataError
from transferset.headers import ImageFormat, RawHeader, parse_header
from transferset.jpeg_scans import MOST_SCANS, has_too_many_scans

MAX_PIXELS = 100_000_000
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
EXTENSIONS: dict[str, str] = {"jpeg": "jpg", "png": "png", "webp": "webp"}

# Pillow's plugins are called directly: no other format can be opened, and Image.open's process-wide limit
# (Image.MAX_IMAGE_PIXELS) neither warns nor interferes with ours.
_PLUGINS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": PngImagePlugin.PngImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
}
_CODEC_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
# Warnings of libjpeg on files that cameras and web servers produce and every viewer shows in full.
_HARMLESS = re.compile(
    r"Corrupt JPEG data: \d extraneous bytes|Invalid SOS parameters|Warning: unknown JFIF|Unknown Adobe color"
)


class ImageError(DataError):
    """An image that can't be used; `reason` is short and without the image's name."""

    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(f"unreadable image: {reason}", hint)
        self.reason = reason


@dataclass(frozen=True)
class Header:
    """Format and size in pixels of an image as it is shown, that is after EXIF orientation."""

    format: ImageFormat
    width: int
    height: int


def read_header(data: bytes, max_pixels: int = MAX_PIXELS) -> Header:
    """Format and size of an encoded image, without decoding it.

    Raises ImageError if the bytes are no JPEG, PNG or WebP, or hold more than `max_pixels` pixels. That the
    header is fine says nothing about the rest of the file: only `decode` finds that it is truncated.
    """
    raw = _checked_header(data, max_pixels)
    turned = raw.orientation >= 5
    width, height = (raw.height, raw.width) if turned else (raw.width, raw.height)
    return Header(raw.format, width, height)


def decode(data: bytes, *, short_side: int | None = None, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode an image to RGB, (h, w, 3) uint8, as a viewer would show it.

    EXIF orientation is applied, transparency lies over white, CMYK, palette, grey and 16-bit images are
    converted, an animation gives its first frame; colour profiles are ignored. With `short_side` a JPEG
    whose short side is at least twice that is decoded at a reduced DCT scale, its short side staying >=
    `short_side`; anything else keeps its size. Thread-safe; the codecs release the GIL.

    Raises ImageError for whatever can't be decoded to its last row, `max_pixels` included.
    """
    raw = _checked_header(data, max_pixels)
    if raw.format == "jpeg" and has_too_many_scans(data):
        raise ImageError(f"too many scans: a JPEG may have {MOST_SCANS}")
    try:
        pixels = _decode_jpeg(data, raw, short_side) if raw.format == "jpeg" else _decode_pillow(data, raw)
    except _CODEC_ERRORS as error:
        raise ImageError(_reason(error)) from error
    return _orient(pixels, raw.orientation)


def _checked_header(data: bytes, max_pixels: int) -> RawHeader:
    try:
        raw = parse_header(data)
    except (ValueError, struct.error, IndexError) as error:
        raise ImageError(str(error)) from error
    pixels = raw.width * raw.height
    if pixels == 0:
        raise ImageError(f"no pixels: {raw.width} x {raw.height}")
    if pixels > max_pixels:
        raise ImageError(
            f"too many pixels: {pixels} > {max_pixels}", hint="raise --max-pixels to accept larger images"
        )
    return raw


def _decode_jpeg(data: bytes, raw: RawHeader, short_side: int | None) -> np.ndarray:
    reduced = short_side is not None and min(raw.width, raw.height) >= 2 * short_side
    side = short_side if reduced else None
    if raw.bits != 8 or raw.channels not in (1, 3):
        return _decode_pillow(data, raw, side)
    scale = {"min_height": side, "min_width": side, "min_factor": 2} if side else {}
    try:
        return simplejpeg.decode_jpeg(data, "RGB", strict=True, **scale)
    except ValueError as error:
        # What TurboJPEG doesn't do (odd subsampling, arithmetic coding) and harmless warnings are for Pillow,
        # which is as strict about truncation.
        if "tjDecompress" in str(error) or _HARMLESS.match(str(error)):
            return _decode_pillow(data, raw, side)
        raise


def _decode_pillow(data: bytes, raw: RawHeader, side: int | None = None) -> np.ndarray:
    if raw.format == "webp" and len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise ValueError("truncated")
    with _PLUGINS[raw.format](io.BytesIO(data)) as image:
        if image.width * image.height > raw.width * raw.height:
            raise ValueError("damaged: two different sizes in one file")
        if side is not None:
            image.draft(None, (_scaled(raw.width, raw, side), _scaled(raw.height, raw, side)))
        image.load()
        return np.array(_to_rgb(image))  # a copy: writable, and its own


def _scaled(length: int, raw: RawHeader, side: int) -> int:
    return max(1, length * side // min(raw.width, raw.height))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        shown = Image.new("RGB", rgba.size, "white")
        shown.paste(rgba, mask=rgba.getchannel("A"))
        return shown
    return image if image.mode == "RGB" else image.convert("RGB")


def _orient(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the EXIF orientation (1-8) of stored pixels; contiguous."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    flip_rows = orientation in (3, 4, 7, 8)
    flip_columns = orientation in (2, 3, 6, 7)
    return np.ascontiguousarray(pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1])


def _reason(error: BaseException) -> str:
    """A codec's complaint as one short line; everything that means a missing end is called truncated."""
    text = " ".join(str(error).split())[:160]
    if text.startswith(("damaged", "truncated")):
        return text
    if re.search(r"[Pp]remature end|[Tt]runcated|unexpected end|EOF|incomplete", text):
        return f"truncated ({text})"
    return f"damaged ({type(error).__name__}: {text})"
