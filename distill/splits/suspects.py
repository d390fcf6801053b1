"""Which pairs of images might be near copies, found without a model: by perceptual hashes, and by small
pictures of the windows that a crop could have left."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from distill.splits.facts import Fact
from transferset.alignment import promise
from transferset.parallel import ordered_map
from transferset.progress import progress
from transferset.sketch import Sketch

SCALES = ((1.0, 1), (0.87, 2), (0.75, 3), (0.65, 3))
"""Windows of an image: their side as a share of its own, and how many along each side."""

HASH_BITS = 8
"""Perceptual hashes that differ in so many of 64 bits at most make a suspect."""

_GRID = 12
_LEAST_LIKENESS, _LEAST_OWN_SPLIT = 0.5, 0.7
_BEST, _BLOCK = 2, 256
LEAST_PROMISE = 0.62


@dataclass(frozen=True, order=True)
class Suspect:
    """`copy` may show `original`, or a part of it, at this `scale`, `mirrored` or not: places of images. Of
    two suspects the one with more `promise` is looked at first."""

    promise: float
    original: int
    copy: int
    scale: float
    mirrored: bool


def suspects(facts: Sequence[Fact], splits: Sequence[str | None], workers: int) -> list[Suspect]:
    """Suspects among n images, the most promising first; no pair twice. Exact copies must have been left
    out.

    Every image is compared with every other as a whole, both ways round, with each of the other's windows,
    and the best few in other splits (and one in its own) are looked at closer by `promise`.
    """
    if len(facts) < 2:
        return []
    likeness = _Likeness([fact.sketch for fact in facts])
    pairs: dict[tuple[int, int, bool], tuple[float, int, int, float, bool]] = {}
    for original, copy, mirrored in _close_hashes(facts):
        pairs[original, copy, True] = (1.0, original, copy, 1.0, mirrored)
    for alike, original, copy in _most_alike(likeness, np.array([split or "" for split in splits])):
        key = min(original, copy), max(original, copy), False
        if alike > pairs.get(key, (0.0,))[0]:
            pairs[key] = (alike, original, copy, *likeness.window(original, copy))

    def look(found: tuple[float, int, int, float, bool]) -> Suspect:
        _, original, copy, scale, mirrored = found
        one, other = (Sketch(facts[place].sketch.grey) for place in (original, copy))
        return Suspect(promise(one, other, scale, mirrored), original, copy, scale, mirrored)

    ranked = []
    with progress("look closer", len(pairs), "pairs") as bar:
        for one in ordered_map(look, list(pairs.values()), max(1, workers), 4 * max(1, workers)):
            if one.promise >= LEAST_PROMISE:
                ranked.append(one)
            bar.advance()
    return sorted(ranked, key=lambda one: (-one.promise, one.original, one.copy))


class _Likeness:
    """Correlations of small, even-tempered pictures: of whole images (n, d) and of windows (n, w, d)."""

    def __init__(self, sketches: Sequence[Sketch]) -> None:
        windows = np.stack([_windows(sketch.grey) for sketch in sketches])
        self.windows = np.ascontiguousarray(windows.transpose(1, 0, 2))
        self.whole = self.windows[0]
        mirrored = self.whole.reshape(-1, _GRID, _GRID)[:, :, ::-1]
        self.mirrored = np.ascontiguousarray(mirrored.reshape(self.whole.shape))
        self.scales = [scale for scale, along in SCALES for _ in range(along**2)]

    def block(self, start: int) -> np.ndarray:
        """How alike every image, in its best window, and the copies from `start` are, (n, b)."""
        best = np.full((len(self.whole), len(self.whole[start : start + _BLOCK])), -1, np.float32)
        for copies in (self.whole, self.mirrored):
            copied = copies[start : start + _BLOCK].T
            for window in self.windows:
                np.maximum(best, window @ copied, out=best)
        return best

    def window(self, original: int, copy: int) -> tuple[float, bool]:
        """The scale of the window of `original` that is most like `copy`, and whether it is mirrored."""
        plain, mirrored = (self.windows[:, original] @ copies[copy] for copies in (self.whole, self.mirrored))
        number = int(np.maximum(plain, mirrored).argmax())
        return self.scales[number], bool(mirrored[number] > plain[number])


def _windows(grey: np.ndarray) -> np.ndarray:
    """(w, d) float32 of unit length: windows scaled to a few pixels, without their large shades."""
    picture, (height, width) = Image.fromarray(grey), grey.shape
    small = []
    for scale, along in SCALES:
        starts = np.linspace(0, 1 - scale, along)
        for top in starts:
            for left in starts:
                box = (left * width, top * height, (left + scale) * width, (top + scale) * height)
                small.append(np.asarray(picture.resize((_GRID, _GRID), Image.Resampling.BOX, box=box)))
    stack = np.stack(small)
    stack = stack - ndimage.gaussian_filter(stack, (0, 2.5, 2.5), mode="nearest")
    stack = (stack - stack.mean(axis=(1, 2), keepdims=True)).reshape(len(stack), -1)
    return np.asarray(stack / (np.linalg.norm(stack, axis=1, keepdims=True) + 1e-3 * _GRID**2), np.float32)


def _most_alike(likeness: _Likeness, splits: np.ndarray) -> Iterator[tuple[float, int, int]]:
    """(likeness, original, copy): for every image as a copy the best originals in other splits, and the best
    one in its own; of a set without splits the best of all."""
    several = len(np.unique(splits)) > 1
    for start in _blocks(len(splits)):
        alike = likeness.block(start)
        copies = np.arange(start, start + alike.shape[1])
        alike[copies, copies - start] = -1
        own = splits[:, None] == splits[None, copies]
        groups = [(np.where(own, -1, alike), _BEST, _LEAST_LIKENESS)] if several else []
        groups.append((np.where(own, alike, -1), 1 if several else _BEST, _LEAST_OWN_SPLIT))
        for values, count, least in groups:
            count = min(count, len(values) - 1)
            rows = np.argpartition(-values, count - 1, axis=0)[:count]
            for rank in range(count):
                for column in np.flatnonzero(values[rows[rank], copies - start] >= least).tolist():
                    row = int(rows[rank, column])
                    yield float(values[row, column]), row, start + column


def _blocks(images: int) -> Iterator[int]:
    with progress("compare images", images, "images") as bar:
        for start in range(0, images, _BLOCK):
            yield start
            bar.advance(min(_BLOCK, images - start))


def _close_hashes(facts: Sequence[Fact]) -> Iterator[tuple[int, int, bool]]:
    """Pairs, the smaller place first, whose perceptual hashes nearly agree, and whether mirrored: for each
    image the nearest few."""
    hashes = np.stack([fact.hashes for fact in facts])
    for start in range(0, len(hashes), _BLOCK):
        part = hashes[start : start + _BLOCK, 0]
        plain, mirrored = (np.bitwise_count(hashes[:, side, None] ^ part[None]) for side in (0, 1))
        distance = np.minimum(plain, mirrored)
        columns = np.arange(len(part))
        distance[start + columns, columns] = 99
        for column in columns.tolist():
            rows = np.flatnonzero(distance[:, column] <= HASH_BITS)
            rows = rows[np.argsort(distance[rows, column], kind="stable")][: 2 * _BEST]
            for row in rows.tolist():
                flipped = bool(mirrored[row, column] < plain[row, column])
                yield min(row, start + column), max(row, start + column), flipped
