"""An image as what is compared of it: small, grey, without its frame, in bands of detail."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from PIL import Image
from scipy import ndimage

SIDE = 56
"""Pixels of a sketch are about SIDE x SIDE."""
COARSE_SIDE = 32
"""The same of its `coarse` picture."""


@dataclass(frozen=True, eq=False)
class Sketch:
    """An image ready to be compared: `grey` (h, w) float32 of about SIDE x SIDE pixels, frame removed."""

    grey: np.ndarray
    _sizes: "dict[tuple[int, int], Sketch]" = field(default_factory=dict, repr=False)

    def resized(self, shape: tuple[int, int]) -> "Sketch":
        """The same image at another size, (h, w)."""
        if shape not in self._sizes:
            self._sizes[shape] = Sketch(_resize(self.grey, shape))
        return self._sizes[shape]

    @cached_property
    def coarse(self) -> np.ndarray:
        """What is searched: the structure at a smaller size."""
        height, width = (max(4, round(length * COARSE_SIDE / SIDE)) for length in self.grey.shape)
        return _even(_band(_resize(self.grey, (height, width)), 0.7, 3.0))

    @cached_property
    def structure(self) -> np.ndarray:
        """What is aligned: edges, with the same contrast everywhere."""
        return _even(_band(self.grey, 1.0, 4.0))

    @cached_property
    def detail(self) -> np.ndarray:
        """What is compared in the end: the finest structure that survives a strong JPEG at half size."""
        return _band(self.grey, 0.8, 3.0)


def sketch(rgb: np.ndarray) -> Sketch:
    """Prepare an image (h, w, 3) uint8."""
    rgb = _without_frame(rgb)
    height, width = rgb.shape[:2]
    factor = SIDE / (height * width) ** 0.5
    shape = max(8, round(width * factor)), max(8, round(height * factor))
    grey = Image.fromarray(rgb).convert("L").resize(shape, Image.Resampling.BICUBIC, reducing_gap=3.0)
    return Sketch(np.asarray(grey, np.float32))


def _without_frame(rgb: np.ndarray) -> np.ndarray:
    """The picture without rows and columns of one colour along its edges, up to a third from each."""
    for _ in range(2):
        rgb = rgb[_frame(rgb) :]
        rgb = np.rot90(rgb, 2)[_frame(rgb[::-1]) :]
        rgb = np.rot90(rgb, 2).swapaxes(0, 1)
    return np.ascontiguousarray(rgb)


def _frame(rgb: np.ndarray) -> int:
    """How many rows from the top are of one colour, with the row of transition."""
    rows = rgb[: rgb.shape[0] // 3].astype(np.float32)
    level = np.median(rows, axis=1, keepdims=True)
    plain = np.abs(rows - level).mean(axis=1).max(axis=1, initial=0) < 6
    same = np.abs(level - level[:1]).max(axis=(1, 2), initial=0) < 12
    flat = plain & same
    found = len(rows) if flat.all() else int(flat.argmin())
    return min(found + 1, len(rows)) if found else 0


def _resize(grey: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    resized = Image.fromarray(grey).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(resized, np.float32)


def _band(grey: np.ndarray, fine: float, coarse: float) -> np.ndarray:
    smooth = ndimage.gaussian_filter(grey, fine, mode="nearest", truncate=3.0)
    return smooth - ndimage.gaussian_filter(grey, coarse, mode="nearest", truncate=3.0)


def _even(band: np.ndarray) -> np.ndarray:
    energy = np.sqrt(ndimage.gaussian_filter(band * band, 5.0, mode="nearest", truncate=2.0))
    return np.asarray(band / (energy + 4.0), np.float32)
