"""Item id → position: a sorted cache that can always be made again from the parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from curate.index.layout import IDS
from curate.index.numbering import Numbering
from curate.index.part import Part
from transferset.writes import atomic_file, atomic_path

_ITEM_IDS = "item_ids.npy"
_POSITIONS = "positions.npy"
GENERATION_DIGITS = 16


def generation(index: Path, cache: str, parts_sha256: str) -> Path:
    """The folder of a cache for one state of parts.parquet: a cache of another state is never mistaken for
    it."""
    return Path(index) / cache / parts_sha256[:GENERATION_DIGITS]


@dataclass
class ItemIds:
    """`ids` (n, 16) uint8 in ascending order, equal ones by position; `positions` (n,) int64 of the same
    rows."""

    ids: np.ndarray
    positions: np.ndarray

    def find(self, item_id: bytes) -> list[int]:
        """The positions of an item, smallest first; empty if there is none."""
        start = self._left(item_id)
        found = []
        while start < len(self.ids) and self.ids[start].tobytes() == item_id:
            found.append(int(self.positions[start]))
            start += 1
        return found

    def _left(self, item_id: bytes) -> int:
        """The first place whose id is not smaller. (np.searchsorted would copy a memory-mapped column.)"""
        low, high = 0, len(self.ids)
        while low < high:
            middle = (low + high) // 2
            if self.ids[middle].tobytes() < item_id:
                low = middle + 1
            else:
                high = middle
        return low

    @cached_property
    def repeated(self) -> np.ndarray:
        """Mask (n,) over the sorted order: the same item stands before, at a smaller position."""
        mask = np.zeros(len(self.ids), bool)
        if len(self.ids):
            mask[1:] = (self.ids[1:] == self.ids[:-1]).all(axis=1)
        return mask

    @property
    def distinct(self) -> int:
        """Number of different items."""
        return len(self.ids) - int(self.repeated.sum())


def sort_ids(parts: Sequence[Part], numbering: Numbering) -> ItemIds:
    """Make the cache's content from the parts."""
    ids = np.concatenate([part.item_ids() for part in parts]) if parts else np.empty((0, 16), np.uint8)
    words = ids.view(">u8").astype(np.uint64)
    order = np.lexsort((words[:, 1], words[:, 0]))  # stable: equal ids stay in the order of positions
    return ItemIds(ids[order], numbering.positions(order))


def write_ids(index: Path, parts_sha256: str, found: ItemIds) -> None:
    """Write the cache for one state of parts.parquet."""
    target = generation(index, IDS, parts_sha256)
    if target.exists():
        return
    with atomic_path(target) as directory:
        directory.mkdir()
        for name, array in ((_ITEM_IDS, found.ids), (_POSITIONS, found.positions)):
            with atomic_file(directory / name) as file:
                np.save(file, array, allow_pickle=False)


def load_ids(index: Path, parts_sha256: str, rows: int) -> ItemIds | None:
    """The cache for this state, memory-mapped; None if it is missing or damaged (then `sort_ids`)."""
    folder = generation(index, IDS, parts_sha256)
    try:
        ids = np.load(folder / _ITEM_IDS, mmap_mode="r" if rows else None, allow_pickle=False)
        positions = np.load(folder / _POSITIONS, mmap_mode="r" if rows else None, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if (
        ids.shape != (rows, 16)
        or ids.dtype != np.uint8
        or positions.shape != (rows,)
        or positions.dtype != np.int64
    ):
        return None
    return ItemIds(ids.view(np.ndarray), positions.view(np.ndarray))
