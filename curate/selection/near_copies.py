"""Near copies of excluded images among pool items: suspects by cosine to their views, confirmed on pixels."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from curate.encoding.views import VIEWS
from curate.selection.thresholds import Thresholds
from transferset.alignment import SAME_PICTURE, Sketch, agreement, sketch
from transferset.images import MAX_PIXELS, ImageError, decode
from transferset.parallel import ordered_map

if TYPE_CHECKING:
    from curate.index.index import Index
    from curate.index.part import ItemRow

T = TypeVar("T")

MOST_SUSPECTS = 4
"""So many excluded images, the most similar ones, are laid over one item."""
_SKETCH_SIDE = 128
_BLOCK_ROWS = 1_024
_BLOCK_IMAGES = 1_024
_SKETCHES = 1_024
_WORKERS = os.cpu_count() or 1
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
        vectors: (n, VIEWS, d) float16, of unit length; a row of zeros for an image that can't be decoded.
        read: the encoded bytes of excluded image number n.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        read: Callable[[int], bytes],
        thresholds: Thresholds,
        max_pixels: int = MAX_PIXELS,
        workers: int = _WORKERS,
    ) -> None:
        self.vectors = vectors
        self.thresholds = thresholds
        self.compared = 0
        self._max_pixels = max_pixels
        self._workers = workers
        self._original = lru_cache(_SKETCHES)(lambda number: sketch_of(read(number), max_pixels))

    def among(
        self, items: Sequence[T], rows: np.ndarray, read: Callable[[T], bytes | None]
    ) -> list[NearCopy[T]]:
        """Those of `items`, with embeddings `rows` (n, d), that are copies. `read` gives an item's encoded
        bytes, None where there are none to have."""
        suspects = self._suspects(rows)
        asked = [(items[number], found) for number, found in suspects]
        self.compared += len(asked)
        hits = ordered_map(lambda one: self._confirm(*one, read), asked, self._workers, 4 * self._workers)
        return [hit for hit in hits if hit is not None]

    def _suspects(self, rows: np.ndarray) -> list[tuple[int, list[tuple[float, int]]]]:
        """Number of each suspicious row, with the (cosine, image) that make it so, best first."""
        found: list[tuple[int, list[tuple[float, int]]]] = []
        for start in range(0, len(rows), _BLOCK_ROWS):
            block = np.asarray(rows[start : start + _BLOCK_ROWS], np.float32)
            pairs: list[list[tuple[float, int]]] = [[] for _ in block]
            for first in range(0, len(self.vectors), _BLOCK_IMAGES):
                cosines = best_cosines(block, self.vectors[first : first + _BLOCK_IMAGES])
                for row, image in np.argwhere(cosines >= self.thresholds.leak_candidate).tolist():
                    pairs[row].append((float(cosines[row, image]), first + image))
            for row, one in enumerate(pairs):
                if one:
                    best = sorted(one, key=lambda pair: (-pair[0], pair[1]))[:MOST_SUSPECTS]
                    found.append((start + row, best))
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
                if cosine >= self.thresholds.alone:
                    best = best or NearCopy(item, image, cosine, None)
                continue
            same = round(agreement(original, copy), 2)
            if same >= SAME_PICTURE and (best is None or same > (best.agreement or 0)):
                best = NearCopy(item, image, cosine, same)
                if same > 0.9:
                    break
        return best


def best_cosines(rows: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """The largest cosine (r, n) float32 of rows (r, d) with any view of each image (n, VIEWS, d), in steps of
    1e-4."""
    import torch

    flat = torch.from_numpy(np.asarray(vectors, np.float32).reshape(-1, vectors.shape[-1]))
    cosines = (torch.from_numpy(np.asarray(rows, np.float32)) @ flat.T).numpy()
    return cosines.reshape(len(rows), -1, VIEWS).max(axis=2).round(DECIMALS)


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


def embeddings_of(index: "Index", positions: np.ndarray) -> np.ndarray:
    """The stored rows (n, d) float16 of items at `positions` (n,) int64."""
    from curate.index.layout import PART_BITS, ROW_MASK

    rows = np.empty((len(positions), index.dimension), np.float16)
    parts = positions >> PART_BITS
    for part in np.unique(parts).tolist():
        chosen = np.flatnonzero(parts == part)
        rows[chosen] = index.embeddings(part)[positions[chosen] & ROW_MASK]
    return rows


def stack_views(found: Iterable[np.ndarray | None], dimension: int) -> np.ndarray:
    """(n, VIEWS, d) float16 of what `embed_views` gives; zeros for what it could not read."""
    nothing = np.zeros((VIEWS, dimension), np.float16)
    rows = [nothing if one is None else one.astype(np.float16) for one in found]
    return np.stack(rows) if rows else np.empty((0, VIEWS, dimension), np.float16)
