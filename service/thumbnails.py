"""Thumbnails of items."""

import io

from PIL import Image

from transferset.images import decode

DEFAULT_SIZE = 256
SMALLEST = 16
_QUALITY = 85


def thumbnail(data: bytes, size: int, max_pixels: int) -> bytes:
    """An encoded image as a JPEG whose longer side is at most `size` pixels; never enlarged. ImageError."""
    pixels = decode(data, short_side=size, max_pixels=max_pixels)
    image = Image.fromarray(pixels)
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
