"""Near-duplicates among the items that a selection takes: of two, the one that was taken first stays.

An item leaves only for an item that stays (never for one that has left itself: chains of pairs that look
alike would empty the set). Suspects have a cosine as slightly edited copies have and nearly the same
perceptual hash, or a cosine that is hardly ever reached without being copies; they count when their pixels
agree. Mirrored or heavily cropped copies within the set are found only by the latter.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from curate.selection.near_copies import DECIMALS, pool_bytes, sketch_of
from curate.selection.removed import NEAR_DUPLICATE, Removed
from curate.selection.thresholds import Thresholds
from transferset.alignment import SAME_PICTURE, agreement
from transferset.images import MAX_PIXELS
from transferset.parallel import ordered_map

if TYPE_CHECKING:
    from curate.index.index import Index
    from curate.index.part import ItemRow

MOST_SUSPECTS = 3
"""So many earlier items that stay, the most similar ones, are laid over one item."""
_GUESSES = 2
_DIRECTIONS = 64
_SAMPLE = 4_096
_BLOCK = 2_048
_FLOAT_ERROR = 2e-3
_HASH_BITS = 16

Pair = tuple[int, int]  # later item, earlier item: numbers in the order of taking


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
        rows = self._index.vectors(order)
        hashes = np.array([item.perceptual_hash for item in self._index.items(order)], np.uint64)
        removed = self._drop(order, rows, hashes, len(old))
        gone = {one.position for one in removed}
        self._known = {one: None for one in order.tolist() if one not in gone}
        return removed

    def _drop(self, order: np.ndarray, rows: np.ndarray, hashes: np.ndarray, known: int) -> list[Removed]:
        """Settles the items in order, a block at a time."""
        gone = np.zeros(len(order), np.bool_)
        removed: list[Removed] = []
        for pairs in suspicious_pairs(rows, hashes, self._thresholds, known, gone):
            removed += self._settle(order, pairs, gone)
        return removed

    def _settle(self, order: np.ndarray, pairs: np.ndarray, gone: np.ndarray) -> list[Removed]:
        """Of a block's later items with their suspects (columns 0, 1, 2 of `pairs`), those that leave; `gone`
        (n,) bool is kept up to date.

        An item is laid over the MOST_SUSPECTS most similar of the earlier items that stay. Which those are is
        open while earlier ones are open, so pairs are laid over each other in rounds, each in threads: in the
        first _GUESSES rounds also with suspects that may leave yet, later with those only that surely stay.
        Where one of its first suspects has left, it is also laid over the one that this left for; else many
        copies of one picture would take many rounds. So an item is laid over at most (_GUESSES + 2) *
        MOST_SUSPECTS others, and each round settles at least the first open item.
        """
        numbers = np.unique(pairs[:, :2].astype(np.int64))
        items = dict(zip(numbers.tolist(), self._index.items(order[numbers]), strict=True))
        suspects = _Suspects(pairs, gone)
        known: dict[Pair, float | None] = {}

        def confirm(pair: Pair) -> float | None:
            return self._agreement(items[pair[1]], items[pair[0]])

        removed: list[Removed] = []
        guesses = _GUESSES
        while suspects.open:
            wanted = [pair for pair in suspects.to_compare(guesses > 0) if pair not in known]
            guesses -= 1
            self.compared += len(wanted)
            found = ordered_map(confirm, wanted, self._workers, 4 * self._workers)
            known.update(zip(wanted, found, strict=True))
            for later in list(suspects.open):
                left = self._decide(later, suspects, known)
                if left is not None:
                    earlier, cosine, same = left
                    match = items[earlier].item_id.hex()
                    removed.append(Removed(int(order[later]), NEAR_DUPLICATE, match, cosine, same))
        return removed

    def _decide(
        self, later: int, suspects: "_Suspects", known: dict[Pair, float | None]
    ) -> tuple[int, float, float | None] | None:
        """Settles an item if its suspects are settled and compared as far as needed. If it leaves: for which
        item, with which cosine and agreement."""
        sure = True
        for earlier, cosine in suspects.of(later):
            if earlier in suspects.open or (later, earlier) not in known:
                sure = False
                continue
            same = known[later, earlier]
            if cosine >= self._thresholds.duplicate_alone if same is None else same >= SAME_PICTURE:
                suspects.settle(later, leaves_for=earlier)
                return earlier, cosine, same
        if sure:
            suspects.settle(later)
        return None

    def _agreement(self, earlier: "ItemRow", later: "ItemRow") -> float | None:
        sketches = []
        for item in (earlier, later):
            data = pool_bytes(self._index, item)
            sketches.append(None if data is None else sketch_of(data, self._max_pixels))
        one, other = sketches
        return None if one is None or other is None else round(agreement(one, other), 2)


class _Suspects:
    """The later items of a block that are open, in order, and their suspects."""

    def __init__(self, pairs: np.ndarray, gone: np.ndarray) -> None:
        self._gone = gone
        pairs = _ordered(pairs)
        numbers, starts = np.unique(pairs[:, 0].astype(np.int64), return_index=True)
        of_each = np.split(pairs[:, 1:], starts[1:])
        self._suspects = dict(zip(numbers.tolist(), of_each, strict=True)) if len(pairs) else {}
        self._first = {
            later: some[:MOST_SUSPECTS, 0].astype(int).tolist() for later, some in self._suspects.items()
        }
        self._left_for: dict[int, int] = {}
        self.open = dict.fromkeys(self._suspects)

    def of(self, later: int) -> list[tuple[int, float]]:
        """The most similar suspects that have not left, and suspects that the first ones left for, with their
        cosines."""
        suspects = self._suspects[later]
        self._suspects[later] = suspects = suspects[~self._gone[suspects[:, 0].astype(np.int64)]]
        stand_ins = [self._left_for[one] for one in self._first[later] if one in self._left_for]
        rest = suspects[MOST_SUSPECTS:]
        chosen = np.concatenate([suspects[:MOST_SUSPECTS], rest[np.isin(rest[:, 0], stand_ins)]])
        return [(int(earlier), float(cosine)) for earlier, cosine in chosen]

    def to_compare(self, guess: bool) -> Iterator[Pair]:
        """Open items with their suspects; unless `guess`, with those only that surely stay."""
        for later in self.open:
            for earlier, _ in self.of(later):
                if guess or earlier not in self.open:
                    yield later, earlier

    def settle(self, later: int, leaves_for: int | None = None) -> None:
        """The item stays, or leaves for another."""
        if leaves_for is not None:
            self._gone[later] = True
            self._left_for[later] = leaves_for
        del self.open[later]


def suspicious_pairs(
    rows: np.ndarray, hashes: np.ndarray, thresholds: Thresholds, known: int, gone: np.ndarray
) -> Iterator[np.ndarray]:
    """Pairs of unit `rows` (n, d) with perceptual `hashes` (n,) uint64 that may be duplicates, except those
    within the first `known` rows: (m, 3) float64 for each block of later rows, with columns later row,
    earlier row, cosine.

    `gone` (n,) bool is looked at before each block: rows that have left are no earlier ones. Of earlier
    blocks, whose rows are settled, each row has at most MOST_SUSPECTS, the most similar; of its own all.

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
            close = _close(rows, hashes, pairs[~gone[pairs[:, 1]]], thresholds)
            near.append(close if first == start else _best(close))
        earlier = _best(np.concatenate(near[:-1])) if len(near) > 1 else near[0][:0]
        yield np.concatenate([earlier, near[-1]])


def _close(rows: np.ndarray, hashes: np.ndarray, pairs: np.ndarray, thresholds: Thresholds) -> np.ndarray:
    """Of `pairs` (m, 2) those that are suspects by their true cosine, with it: (k, 3) float64."""
    cosines = np.empty(len(pairs))
    for start in range(0, len(pairs), _BLOCK):
        some = pairs[start : start + _BLOCK]
        a, b = rows[some[:, 0]].astype(np.float32), rows[some[:, 1]].astype(np.float32)
        cosines[start : start + _BLOCK] = np.einsum("nd,nd->n", a, b).round(DECIMALS)
    alike = np.bitwise_count(hashes[pairs[:, 0]] ^ hashes[pairs[:, 1]]) <= _HASH_BITS
    keep = (cosines >= thresholds.duplicate_alone) | (alike & (cosines >= thresholds.duplicate))
    return np.column_stack([pairs[keep], cosines[keep]])


def _best(pairs: np.ndarray) -> np.ndarray:
    """At most MOST_SUSPECTS of each later item."""
    pairs = _ordered(pairs)
    starts = np.searchsorted(pairs[:, 0], pairs[:, 0])
    return pairs[np.arange(len(pairs)) - starts < MOST_SUSPECTS]


def _ordered(pairs: np.ndarray) -> np.ndarray:
    """By later item (column 0), then cosine (column 2), the highest first, then earlier item."""
    return pairs[np.lexsort((pairs[:, 1], -pairs[:, 2], pairs[:, 0]))]


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
