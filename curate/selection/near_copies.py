"""Near copies of excluded images among pool items: suspects by the cosine of whitened embeddings to their
views, confirmed on pixels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from curate.encoding.views import COPY_VIEWS
from curate.selection.thresholds import Calibration
from transferset.alignment import SAME_PICTURE, agreement
from transferset.images import MAX_PIXELS, ImageError, decode
from transferset.parallel import ordered_map
from transferset.sketch import Sketch, sketch

if TYPE_CHECKING:
    from curate.index.index import Index
    from curate.index.part import ItemRow

T = TypeVar("T")

MOST_IMAGES, MOST_ITEMS = 4, 16
"""An item is laid over so many excluded images, the most similar ones; and an excluded image over so many
items, then as many again as long as copies are found: so the cost stays bounded, whatever the encoder."""
_SKETCH_SIDE = 128
_BLOCK_ROWS = 1_024
_BLOCK_IMAGES = 1_024
_SKETCHES = 1_024
DECIMALS = 4


@dataclass(frozen=True)
class NearCopy(Generic[T]):
    """An item that is a near copy of an excluded image; see `curate.selection.removed` for the scores."""

    item: T
    image: int
    similarity: float
    agreement: float | None


class NearCopies:
    """Excluded images with the vectors of their views, ready to be compared with anything.

    Args:
        vectors: (n, COPY_VIEWS, d) float16, of unit length; zeros for an image that can't be decoded.
        read: the encoded bytes of excluded image number n.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        read: Callable[[int], bytes],
        calibration: Calibration,
        max_pixels: int,
        workers: int,
    ) -> None:
        self.whitening = calibration.whitening
        self.vectors = self.whitening.apply(vectors).astype(np.float16)
        self.thresholds = calibration.thresholds
        self.compared = 0
        self._max_pixels = max_pixels
        self._workers = workers
        self._original = lru_cache(_SKETCHES)(lambda number: sketch_of(read(number), max_pixels))

    def among(
        self, items: Sequence[T], rows: np.ndarray, read: Callable[[T], bytes | None]
    ) -> list[NearCopy[T]]:
        """Those of `items`, with embeddings `rows` (n, d), that are copies. `read` gives an item's encoded
        bytes, None where there are none to have."""
        hits: dict[int, NearCopy[T]] = {}
        waiting = self._suspects(rows)
        while waiting:
            asked: dict[int, list[tuple[float, int]]] = {}
            for image, suspects in waiting.items():
                for cosine, number in suspects[:MOST_ITEMS]:
                    if number not in hits:
                        asked.setdefault(number, []).append((cosine, image))
            self.compared += sum(len(some) for some in asked.values())
            found = self._confirmed(items, sorted(asked.items()), read)
            hits |= found
            # An image goes on down its list only while it finds copies.
            fruitful = {hit.image for hit in found.values()}
            waiting = {image: some[MOST_ITEMS:] for image, some in waiting.items() if image in fruitful}
            waiting = {image: some for image, some in waiting.items() if some}
        return [hits[number] for number in sorted(hits)]

    def cosines(self, rows: np.ndarray) -> np.ndarray:
        """The largest whitened cosine (r, n) float32 of embeddings (r, d) with any view of each image."""
        white = self.whitening.apply(rows)
        blocks = range(0, len(self.vectors), _BLOCK_IMAGES)
        return np.hstack([best_cosines(white, self.vectors[one : one + _BLOCK_IMAGES]) for one in blocks])

    def _confirmed(
        self,
        items: Sequence[T],
        asked: list[tuple[int, list[tuple[float, int]]]],
        read: Callable[[T], bytes | None],
    ) -> dict[int, NearCopy[T]]:
        def one(suspect: tuple[int, list[tuple[float, int]]]) -> NearCopy[T] | None:
            return self._confirm(items[suspect[0]], sorted(suspect[1], reverse=True), read)

        hits = ordered_map(one, asked, self._workers, 4 * self._workers)
        return {number: hit for (number, _), hit in zip(asked, hits, strict=True) if hit is not None}

    def _suspects(self, rows: np.ndarray) -> dict[int, list[tuple[float, int]]]:
        """For each excluded image the (cosine, row) of what may be its copies, best first."""
        found: dict[int, list[tuple[float, int]]] = {}
        for start in range(0, len(rows), _BLOCK_ROWS):
            block = self.whitening.apply(rows[start : start + _BLOCK_ROWS])
            pairs: list[list[tuple[float, int]]] = [[] for _ in block]
            for first in range(0, len(self.vectors), _BLOCK_IMAGES):
                cosines = best_cosines(block, self.vectors[first : first + _BLOCK_IMAGES])
                for row, image in _largest(cosines, self.thresholds.leak):
                    pairs[row].append((float(cosines[row, image]), first + image))
            for row, one in enumerate(pairs):
                for cosine, image in sorted(one, key=lambda pair: (-pair[0], pair[1]))[:MOST_IMAGES]:
                    found.setdefault(image, []).append((cosine, start + row))
        for some in found.values():
            some.sort(key=lambda pair: (-pair[0], pair[1]))
        return found

    def _confirm(
        self, item: T, suspects: list[tuple[float, int]], read: Callable[[T], bytes | None]
    ) -> NearCopy[T] | None:
        data = read(item)
        copy = None if data is None else sketch_of(data, self._max_pixels)
        best: NearCopy[T] | None = None
        for cosine, image in suspects:
            original = self._original(image)
            if copy is None or original is None:
                if cosine >= self.thresholds.leak_alone:
                    best = best or NearCopy(item, image, cosine, None)
                continue
            same = round(agreement(original, copy), 2)
            if same >= SAME_PICTURE and (best is None or same > (best.agreement or 0)):
                best = NearCopy(item, image, cosine, same)
                if same > 0.9:
                    break
        return best


def _largest(cosines: np.ndarray, threshold: float) -> list[tuple[int, int]]:
    """Places (row, column) of at most MOST_IMAGES values per row from `threshold` on."""
    most = min(MOST_IMAGES, cosines.shape[1])
    columns = np.argsort(-cosines, axis=1, kind="stable")[:, :most]
    rows = np.repeat(np.arange(len(cosines)), most)
    keep = cosines[rows, columns.reshape(-1)] >= threshold
    return list(zip(rows[keep].tolist(), columns.reshape(-1)[keep].tolist(), strict=True))


def best_cosines(rows: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """The largest cosine (r, n) float32 of rows (r, d) with any view of each image (n, COPY_VIEWS, d), in
    steps of 1e-4."""
    import torch

    flat = torch.from_numpy(np.asarray(vectors, np.float32).reshape(-1, vectors.shape[-1]))
    cosines = (torch.from_numpy(np.asarray(rows, np.float32)) @ flat.T).numpy()
    return cosines.reshape(len(rows), -1, COPY_VIEWS).max(axis=2).round(DECIMALS)


def sketch_of(data: bytes, max_pixels: int = MAX_PIXELS) -> Sketch | None:
    """The sketch of an encoded image; None if it can't be decoded."""
    try:
        return sketch(decode(data, short_side=_SKETCH_SIDE, max_pixels=max_pixels))
    except ImageError:
        return None


def pool_bytes(index: "Index", item: "ItemRow") -> bytes | None:
    """The item's bytes; None where the pool has none (ready embeddings). DataError where they should be
    there and are not."""
    return None if item.source is None and item.path is None else index.read_bytes(item)
