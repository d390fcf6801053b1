"""What makes two images the same: their bytes, their pixels, or nearly their pixels."""

import hashlib

import numpy as np
from PIL import Image

from transferset.images import ImageError, decode

ID_BYTES = 16


def item_id(data: bytes) -> bytes:
    """The item id of an image: the first 128 bits of SHA-256 of its encoded bytes (16 bytes; `.hex()` in
    text)."""
    return hashlib.sha256(data).digest()[:ID_BYTES]


def pixel_hash(rgb: np.ndarray) -> bytes:
    """SHA-256 (32 bytes) over shape and pixels of a decoded image (h, w, 3) uint8: equal for equal pictures,
    however they were encoded."""
    digest = hashlib.sha256(repr(rgb.shape).encode("ascii"))
    digest.update(np.ascontiguousarray(rgb).data)
    return digest.digest()


def pixels_of(data: bytes, max_pixels: int) -> bytes | None:
    """The pixel hash of an encoded image; None if it can't be decoded."""
    try:
        return pixel_hash(decode(data, max_pixels=max_pixels))
    except ImageError:
        return None


def perceptual_hash(rgb: np.ndarray) -> int:
    """64-bit difference hash of an image (h, w, 3) uint8: grey, area-averaged to 9 x 8, one bit for each
    pair of horizontal neighbours (left darker than right), row by row, first pair in the highest bit.

    Near copies (scaled, recompressed) differ in few bits; distances are Hamming distances. Method: N.
    Krawetz, "Kind of Like That" (2013), the dHash.
    """
    grey = Image.fromarray(rgb).convert("L").resize((9, 8), Image.Resampling.BOX)
    pixels = np.asarray(grey)
    bits = np.packbits(pixels[:, :-1] < pixels[:, 1:])
    return int.from_bytes(bits.tobytes(), "big")
