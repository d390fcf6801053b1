"""The leakage guard: nothing of the excluded folders (usually val and test) may be retrieved.

Exact bytes (the item id) and the same pixels in another file are always looked for. For the latter a pool
image is a suspect if it has the size of an excluded one and a perceptual hash within `NEAR_BITS` bits; a
suspect counts only when both, decoded at full size, have the same pixels. Near copies (crops, scaled, edited
and re-encoded ones) are looked for by `curate.selection.near_copies`, unless that is switched off.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from curate.selection.near_copies import NearCopies, pool_bytes
from curate.selection.removed import EXACT_BYTES, NEAR_COPY, SAME_PIXELS, Removed
from transferset.copies import item_id, perceptual_hash, pixels_of
from transferset.cores import available_cores
from transferset.errors import DataError, UsageError
from transferset.images import IMAGE_SUFFIXES, MAX_PIXELS, ImageError, decode, read_header
from transferset.label_lists import IMAGE_ROOT_HINT, parse_lists
from transferset.labelled import load_labelled
from transferset.parallel import ordered_map
from transferset.reads import read_bytes

if TYPE_CHECKING:
    from curate.index.index import Index
    from curate.index.part import ItemRow

EXACT = (EXACT_BYTES, SAME_PIXELS)
NEAR = ("near copies: crops, flips, scaled, framed, edited or re-encoded images",)
NEAR_BITS = 8


@dataclass(frozen=True)
class ExcludedImage:
    """An image that must not be retrieved: `name` is its folder's name and its path in it. Width and
    height are 0 where it can't be decoded; then only its bytes are compared."""

    name: str
    path: Path
    item_id: bytes
    width: int
    height: int


@dataclass(frozen=True)
class ExcludedSet:
    """The images of the excluded folders."""

    folders: tuple[str, ...]
    images: tuple[ExcludedImage, ...]

    @property
    def unreadable(self) -> tuple[ExcludedImage, ...]:
        """Those that can only be compared by their bytes."""
        return tuple(image for image in self.images if image.width == 0)

    @property
    def digest(self) -> str:
        """SHA-256 over the distinct item ids: the same images give the same digest, wherever they are."""
        return hashlib.sha256(b"".join(sorted({image.item_id for image in self.images}))).hexdigest()


def load_excluded(
    folders: Sequence[Path], max_pixels: int = MAX_PIXELS, workers: int | None = None
) -> ExcludedSet:
    """Every image file below `folders`; a file list, a table, or a word for several lists stands for the
    images that it names. What is missing (UsageError) or names no image (DataError) is an error: a mistyped
    path must not look like protection."""
    images: list[ExcludedImage] = []
    tops: list[str] = []
    threads = workers or available_cores()
    for folder in folders:
        root, paths = (folder, sorted(_images_below(folder))) if folder.is_dir() else _listed(folder)
        if not paths:
            raise DataError(f"--exclude-dir {folder} holds no image")
        tops.append(root.resolve().name)
        named = [(path, f"{tops[-1]}/{Path(os.path.relpath(path, root)).as_posix()}") for path in paths]
        images.extend(ordered_map(lambda one: _excluded(*one, max_pixels), named, threads, 4 * threads))
    return ExcludedSet(tuple(tops), tuple(images))


def _listed(given: Path) -> tuple[Path, list[Path]]:
    if parse_lists(given) is None and not given.is_file():
        raise UsageError(f"--exclude-dir {given} is neither a folder nor a list of images")
    try:
        labelled = load_labelled(given)
    except DataError as error:
        hint = f"--exclude-dir all={given},root=FOLDER says where its images are"
        raise DataError(error.message, hint if error.hint == IMAGE_ROOT_HINT else error.hint) from error
    return labelled.root, sorted(image.path for image in labelled.images)


def _images_below(folder: Path) -> Iterator[Path]:
    """Image files at any depth. Links to folders are followed, each folder once: what a link hides would
    leak."""
    seen: set[str] = set()
    for directory, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(directory)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(directory, name) for name in files if Path(name).suffix.lower() in IMAGE_SUFFIXES)


def _excluded(path: Path, name: str, max_pixels: int) -> ExcludedImage:
    data = read_bytes(path, "excluded image")
    try:
        header = read_header(data, max_pixels)
    except ImageError:
        return ExcludedImage(name, path, item_id(data), 0, 0)
    return ExcludedImage(name, path, item_id(data), header.width, header.height)


class LeakageGuard:
    """Compares pool items with the excluded images; what was compared once is remembered. Without `near` only
    exact copies are found.

    `short_side` is what the index decoded its images for: their perceptual hashes come from such a decode.
    """

    def __init__(
        self,
        excluded: ExcludedSet,
        index: "Index",
        short_side: int | None = None,
        max_pixels: int = MAX_PIXELS,
        near: NearCopies | None = None,
        workers: int | None = None,
    ) -> None:
        self.excluded = excluded
        self.near = near
        self._index = index
        self._short_side = short_side
        self._max_pixels = max_pixels
        self._workers = workers or available_cores()
        self._seen: set[int] = set()
        self._by_size: dict[tuple[int, int], list[ExcludedImage]] = defaultdict(list)
        for image in excluded.images:
            if image.width:
                self._by_size[image.width, image.height].append(image)
        self._hashes: dict[tuple[int, int], np.ndarray] = {}
        self._pixels: dict[Path, bytes | None] = {}

    def exact_copies(self) -> list[tuple[int, ExcludedImage]]:
        """Positions of all pool items whose bytes are an excluded image's."""
        first = {image.item_id: image for image in reversed(self.excluded.images)}
        found = ((self._index.find(identity), image) for identity, image in sorted(first.items()))
        return [(position, image) for position, image in found if position is not None]

    def copies(self, positions: np.ndarray) -> list[Removed]:
        """Of the items at `positions` (n,) int64, those that are copies without having the same bytes, and
        were not told before."""
        fresh = np.array([one for one in positions.tolist() if one not in self._seen], dtype=np.int64)
        found = [Removed(position, SAME_PIXELS, image.name) for position, image in self.same_pixels(fresh)]
        if self.near is None:
            return found
        known = {one.position for one in found}
        rest = np.array([one for one in fresh.tolist() if one not in known], dtype=np.int64)
        hits = self.near.among(self._index.items(rest), self._index.vectors(rest), self._pool_bytes)
        return found + [
            Removed(
                hit.item.position,
                NEAR_COPY,
                self.excluded.images[hit.image].name,
                hit.similarity,
                hit.agreement,
            )
            for hit in hits
        ]

    def _pool_bytes(self, item: "ItemRow") -> bytes | None:
        return pool_bytes(self._index, item)

    def same_pixels(self, positions: np.ndarray) -> list[tuple[int, ExcludedImage]]:
        """Of the items at `positions` (n,) int64, those that show exactly the pixels of an excluded image."""
        fresh = np.array([one for one in positions.tolist() if one not in self._seen], dtype=np.int64)
        self._seen.update(fresh.tolist())
        same_size: dict[tuple[int, int], list[tuple[int, ItemRow]]] = defaultdict(list)
        if self._by_size:
            for position, item in zip(fresh.tolist(), self._index.items(fresh), strict=True):
                if (item.width, item.height) in self._by_size:
                    same_size[item.width, item.height].append((position, item))
        return [hit for size, items in same_size.items() for hit in self._confirmed(size, items)]

    def _confirmed(
        self, size: tuple[int, int], items: list[tuple[int, "ItemRow"]]
    ) -> list[tuple[int, ExcludedImage]]:
        hashes = self._hashes_of(size)
        images = self._by_size[size]
        hits = []
        for position, item in items:
            distances = np.bitwise_count(hashes ^ np.uint64(item.perceptual_hash)).min(axis=0)
            suspects = np.flatnonzero(distances <= NEAR_BITS)
            if len(suspects):
                own = pixels_of(self._index.read_bytes(item), self._max_pixels)
                hit = next(
                    (images[s] for s in suspects.tolist() if own and self._pixels_of(images[s]) == own), None
                )
                if hit is not None:
                    hits.append((position, hit))
        return hits

    def _hashes_of(self, size: tuple[int, int]) -> np.ndarray:
        """Perceptual hashes (2, n) uint64 of the excluded images of this size: decoded in full, and as the
        index decodes, because the scale shifts a few bits."""
        if size not in self._hashes:
            pairs = list(ordered_map(self._hash_pair, self._by_size[size], self._workers, 4 * self._workers))
            self._by_size[size] = [
                image for image, pair in zip(self._by_size[size], pairs, strict=True) if pair
            ]
            self._hashes[size] = np.array([p for p in pairs if p], dtype=np.uint64).reshape(-1, 2).T
        return self._hashes[size]

    def _hash_pair(self, image: ExcludedImage) -> tuple[int, int] | None:
        data = image.path.read_bytes()
        try:
            full = decode(data, max_pixels=self._max_pixels)
            side = self._short_side
            reduced = full if side is None else decode(data, short_side=side, max_pixels=self._max_pixels)
        except ImageError:
            return None
        return perceptual_hash(full), perceptual_hash(reduced)

    def _pixels_of(self, image: ExcludedImage) -> bytes | None:
        if image.path not in self._pixels:
            self._pixels[image.path] = pixels_of(image.path.read_bytes(), self._max_pixels)
        return self._pixels[image.path]
