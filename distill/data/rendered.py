"""Image files as a model's evaluation sees them, in batches that do not depend on what is readable."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transferset.copies import ID_BYTES, item_id
from transferset.errors import DataError
from transferset.images import MAX_PIXELS, ImageError, decode
from transferset.models.preprocessing import Preprocessing
from transferset.open_files import raise_if_too_many_files
from transferset.parallel import ordered_map

WHOLE_AT_ONCE = 4
"""Images in a batch where they are as large as they come."""


def shown(data: bytes, preprocessing: Preprocessing, whole: bool, max_pixels: int) -> np.ndarray:
    """What a model is given of an encoded image: what is rendered of it, or, `whole`, all of it, as any
    program would decode it, unless scaling it would make more than `max_pixels` of it."""
    if not whole:
        rgb = decode(data, short_side=preprocessing.resize_short_side, max_pixels=max_pixels)
        return preprocessing.render(rgb)
    rgb = decode(data, max_pixels=max_pixels)
    height, width = preprocessing.scaled_shape(*rgb.shape[:2])
    if height * width > max_pixels:
        raise ImageError(f"too long for a model that resizes: {height * width} > {max_pixels} pixels scaled")
    return rgb


def blank(count: int, preprocessing: Preprocessing, whole: bool) -> np.ndarray:
    """Black images for a model: (count, size, size, 3) uint8, or, `whole`, count arrays of one pixel."""
    if not whole:
        return np.zeros((count, preprocessing.size, preprocessing.size, 3), np.uint8)
    images = np.empty(count, object)
    for place in range(count):
        images[place] = np.zeros((1, 1, 3), np.uint8)
    return images


@dataclass(frozen=True, eq=False)
class RenderedBatch:
    """Images `start` … `start + n - 1` of a list: item ids (n, 16) uint8, zeros where the file could not be
    read; `pixels` (n, size, size, 3) uint8, zeros where it could not be decoded (None: there is nothing new),
    or n arrays (h, w, 3), of one pixel there; `reasons` says why, by place in the list."""

    start: int
    ids: np.ndarray
    pixels: np.ndarray | None
    reasons: dict[int, str]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Rendering:
    """How files are rendered: `batch_size` images at a time, by `workers` threads (0: the caller's); `whole`:
    they are decoded only, in full, WHOLE_AT_ONCE at a time at most."""

    preprocessing: Preprocessing
    batch_size: int = 64
    workers: int = 1
    max_pixels: int = MAX_PIXELS
    whole: bool = False

    @property
    def at_once(self) -> int:
        """Images in a batch."""
        return min(self.batch_size, WHOLE_AT_ONCE) if self.whole else self.batch_size

    def batches(
        self, paths: Sequence[Path], known: Callable[[bytes], bool] | None = None
    ) -> Iterator[RenderedBatch]:
        """Read, decode and render `paths` in their order; a batch that has no readable image whose id is not
        `known` comes without pixels."""

        def render(start: int) -> RenderedBatch:
            return self._batch(start, paths[start : start + self.at_once], known)

        starts = range(0, len(paths), self.at_once)
        return ordered_map(render, starts, workers=max(1, self.workers), window=self.workers + 1)

    def _batch(
        self, start: int, paths: Sequence[Path], known: Callable[[bytes], bool] | None
    ) -> RenderedBatch:
        ids = np.zeros((len(paths), ID_BYTES), np.uint8)
        datas: list[bytes | None] = []
        reasons: dict[int, str] = {}
        for row, path in enumerate(paths):
            try:
                data = path.read_bytes()
            except OSError as error:
                raise_if_too_many_files(error)
                reasons[start + row] = error.strerror or str(error)
                datas.append(None)
                continue
            datas.append(data)
            ids[row] = np.frombuffer(item_id(data), np.uint8)
        pixels = blank(len(paths), self.preprocessing, self.whole)
        unknown = [row for row, one in enumerate(ids) if known is None or not known(one.tobytes())]
        rest = [row for row in range(len(paths)) if row not in unknown]
        for rows in (unknown, rest):
            failed = self._fill(pixels, datas, rows)
            reasons.update({start + row: reason for row, reason in failed.items()})
            if rows is unknown and all(start + row in reasons for row in unknown):
                return RenderedBatch(start, ids, None, reasons)
        return RenderedBatch(start, ids, pixels, reasons)

    def _fill(self, pixels: np.ndarray, datas: list[bytes | None], rows: list[int]) -> dict[int, str]:
        """Render some rows; returns why, for those that cannot be decoded."""
        reasons: dict[int, str] = {}
        for row in rows:
            data = datas[row]
            if data is not None:
                try:
                    pixels[row] = self._render(data)
                except ImageError as error:
                    reasons[row] = error.reason
        return reasons

    def _render(self, data: bytes) -> np.ndarray:
        return shown(data, self.preprocessing, self.whole, self.max_pixels)


def check_readable(
    paths: Sequence[Path], reasons: dict[int, str], max_error_rate: float | None, what: str
) -> None:
    """Raise DataError if none of the images could be read, or more than the share that was allowed."""
    if not reasons:
        return
    place, reason = next(iter(reasons.items()))
    example = f"{paths[place].name}: {reason}"
    if len(reasons) == len(paths):
        raise DataError(f"none of the {len(paths)} {what} could be read; the first: {example}")
    rate = len(reasons) / len(paths)
    if max_error_rate is not None and rate > max_error_rate:
        raise DataError(
            f"{len(reasons)} of {len(paths)} {what} could not be read "
            f"({rate:.2%}, allowed {max_error_rate:.2%}); the first: {example}"
        )
