"""Near-duplicates among the items that a selection takes: of two, the one that was taken first stays.

An item leaves only for an item that stays (never for one that has left itself: chains of pairs that look
alike would empty the set). Suspects have a cosine as slightly edited copies have and nearly the same
perceptual hash, or a cosine that is hardly ever reached without being copies; they count when their pixels
agree. Mirrored or heavily cropped copies within the set are found only by the latter.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from curate.selection.near_copies import DECIMALS, embeddings_of, pool_bytes, sketch_of
from curate.selection.removed import Removed
from curate.selection.thresholds import Thresholds
from transferset.alignment import SAME_PICTURE, agreement
from transferset.images import MAX_PIXELS
from transferset.parallel import ordered_map

if TYPE_CHECKING:
    from curate.index.index import Index
    from curate.index.part import ItemRow

MOST_SUSPECTS = 3
"""So many earlier items, the most similar ones, are laid over one item."""
_DIRECTIONS = 64
_SAMPLE = 4_096
_BLOCK = 2_048
_FLOAT_ERROR = 2e-3
_HASH_BITS = 16

Pair = tuple[int, int, float]  # later item, earlier item (numbers in the order of taking), cosine


class NearDuplicates:
    """Remembers what was compared, so that a selection can be checked again after it was mended."""

    def __init__(
        self, index: "Index", thresholds: Thresholds, max_pixels: int = MAX_PIXELS, workers: int = 1
    ) -> None:
        self.compared = 0
        self._index = index
        self._thresholds = thresholds
        self._max_pixels = max_pixels
        self._workers = workers
        self._known: dict[int, None] = {}

    def among(self, positions: np.ndarray) -> list[Removed]:
        """Of items at `positions` (n,) int64, in the order in which they were taken, those to leave out.

        What an earlier call let stay goes before what is new.
        """
        taken = set(positions.tolist())
        old = [one for one in self._known if one in taken]
        fresh = [one for one in positions.tolist() if one not in self._known]
        if not fresh:
            return []
        order = np.array(old + fresh, np.int64)
        rows = embeddings_of(self._index, order)
        hashes = np.array([item.phash for item in self._index.items(order)], np.uint64)
        pairs = list(suspicious_pairs(rows, hashes, self._thresholds, len(old)))
        removed = self._drop(order, pairs)
        gone = {one.position for one in removed}
        self._known = {one: None for one in order.tolist() if one not in gone}
        return removed

    def _drop(self, order: np.ndarray, pairs: list[Pair]) -> list[Removed]:
        """Walks through the items in order. Pairs are confirmed before, in threads."""
        self.compared += len(pairs)
        involved = np.unique(np.array([pair[:2] for pair in pairs], np.int64).reshape(-1))
        items = dict(zip(involved.tolist(), self._index.items(order[involved]), strict=True))

        def confirm(pair: Pair) -> float | None:
            return self._agreement(items[pair[1]], items[pair[0]])

        agreements = ordered_map(confirm, pairs, self._workers, 4 * self._workers)
        gone: dict[int, Removed] = {}
        for (later, earlier, cosine), same in zip(pairs, agreements, strict=True):
            alike = cosine >= self._thresholds.duplicate_alone if same is None else same >= SAME_PICTURE
            if alike and later not in gone and earlier not in gone:
                match = items[earlier].item_id.hex()
                gone[later] = Removed(int(order[later]), "near duplicate", match, cosine, same)
        return list(gone.values())

    def _agreement(self, earlier: "ItemRow", later: "ItemRow") -> float | None:
        sketches = []
        for item in (earlier, later):
            data = pool_bytes(self._index, item)
            sketches.append(None if data is None else sketch_of(data, self._max_pixels))
        one, other = sketches
        return None if one is None or other is None else round(agreement(one, other), 2)


def suspicious_pairs(
    rows: np.ndarray, hashes: np.ndarray, thresholds: Thresholds, known: int = 0
) -> Iterator[Pair]:
    """Pairs of unit `rows` (n, d) with perceptual `hashes` (n,) uint64 that may be duplicates, except those
    within the first `known` rows; of each row at most MOST_SUSPECTS earlier ones, the most similar.

    Method: with orthonormal P, x·y <= Px·Py + |x - PPx| |y - PPy| (Cauchy-Schwarz). So products of a few
    coordinates, P the principal directions of a sample, rule out nearly all pairs at a tenth of the cost,
    and never a true one.
    """
    import torch

    bounds = torch.from_numpy(_bounding(rows))
    for start in range(known - known % _BLOCK, len(rows), _BLOCK):
        stop = min(start + _BLOCK, len(rows))
        near: list[np.ndarray] = []
        for first in range(0, stop, _BLOCK):
            last = min(first + _BLOCK, stop)
            bound = bounds[start:stop] @ bounds[first:last].T + _FLOAT_ERROR
            pairs = (bound >= thresholds.duplicate).nonzero().numpy()
            sure = bound.numpy()[pairs[:, 0], pairs[:, 1]] >= thresholds.duplicate_alone
            pairs += np.array([start, first])
            alike = np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]) <= _HASH_BITS
            pairs = pairs[(alike | sure) & (pairs[:, 1] < pairs[:, 0]) & (pairs[:, 0] >= known)]
            near.append(_close(rows, hashes, pairs, thresholds))
        found = _best(np.concatenate(near))
        yield from ((int(a), int(b), float(c)) for a, b, c in found)


def _close(rows: np.ndarray, hashes: np.ndarray, pairs: np.ndarray, thresholds: Thresholds) -> np.ndarray:
    """Of `pairs` (m, 2) those that are suspects by their true cosine, with it: (k, 3) float64."""
    cosines = np.empty(len(pairs))
    for start in range(0, len(pairs), _BLOCK):
        some = pairs[start : start + _BLOCK]
        a, b = rows[some[:, 0]].astype(np.float32), rows[some[:, 1]].astype(np.float32)
        cosines[start : start + _BLOCK] = np.einsum("nd,nd->n", a, b).round(DECIMALS)
    alike = np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]) <= _HASH_BITS
    keep = (cosines >= thresholds.duplicate_alone) | (alike & (cosines >= thresholds.duplicate))
    return _best(np.column_stack([pairs[keep], cosines[keep]]))


def _best(pairs: np.ndarray) -> np.ndarray:
    """At most MOST_SUSPECTS of each later item (column 0), by cosine (column 2), then the earlier item."""
    pairs = pairs[np.lexsort((pairs[:, 1], -pairs[:, 2], pairs[:, 0]))]
    starts = np.searchsorted(pairs[:, 0], pairs[:, 0])
    return pairs[np.arange(len(pairs)) - starts < MOST_SUSPECTS]


def _bounding(rows: np.ndarray) -> np.ndarray:
    """(n, k + 1) float32 vectors whose products are at least the cosines of `rows` (n, d)."""
    sample = np.asarray(rows[:: max(1, len(rows) // _SAMPLE)], np.float32)
    directions = np.linalg.eigh(sample.T @ sample)[1][:, -_DIRECTIONS:]
    bounds = np.empty((len(rows), directions.shape[1] + 1), np.float32)
    for start in range(0, len(rows), _BLOCK):
        block = np.asarray(rows[start : start + _BLOCK], np.float32)
        inside = block @ directions
        rest = np.maximum((block**2).sum(axis=1) - (inside**2).sum(axis=1), 0)
        bounds[start : start + _BLOCK] = np.column_stack([inside, np.sqrt(rest)])
    return bounds
