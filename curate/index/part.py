"""One part of an index as readers see it: memory-mapped rows and items."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from curate.index.layout import BATCH_ROWS, EMBEDDINGS, ITEMS, PART_BITS, ROW_MASK, items_schema
from transferset.errors import DataError
from transferset.grouping import groups_of
from transferset.open_files import map_file, raise_if_too_many_files


class ItemRow(NamedTuple):
    """An item of the index. `source`, `offset` are set for a member of a tar, `path` for a loose file; both
    paths are relative to the pool's root number `root`. `extra` is a JSON object as text."""

    item_id: bytes
    key: str
    root: int
    source: str | None
    offset: int | None
    size: int
    path: str | None
    url: str | None
    format: str
    width: int
    height: int
    caption: str | None
    perceptual_hash: int
    extra: str | None
    part: int
    row: int

    @property
    def position(self) -> int:
        """part << 32 | row"""
        return self.part << PART_BITS | self.row


_COLUMNS = [name for name in items_schema().names if name != "mtime_ns"]


@dataclass
class Part:
    """A finished part. Nothing is read before it is asked for; threads may share it."""

    number: int
    rows: int
    directory: Path
    dimension: int
    _embeddings: np.ndarray | None = field(default=None, repr=False)
    _items: "pa.ipc.RecordBatchFileReader | None" = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def embeddings(self) -> np.ndarray:
        """(rows, d) float16, memory-mapped and read-only."""
        view = self.mapped.view()
        view.flags.writeable = False
        return view

    @property
    def mapped(self) -> np.ndarray:
        """The same rows, mapped copy-on-write, because torch wants memory that it could write. Don't write to
        it."""
        with self._lock:
            if self._embeddings is None:
                self._embeddings = self._map_embeddings()
            return self._embeddings

    def _map_embeddings(self) -> np.ndarray:
        path = self.directory / EMBEDDINGS
        shape = (self.rows, self.dimension)
        if self.rows == 0:
            return np.zeros(shape, np.float16)
        try:
            mapped = np.load(path, mmap_mode="c", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise_if_too_many_files(error)
            raise _damaged(path, error) from error
        if mapped.shape != shape or mapped.dtype != np.float16:
            raise _damaged(path, f"it holds {mapped.dtype} {mapped.shape}, expected float16 {shape}")
        return mapped.view(np.ndarray)

    def release(self) -> None:
        """Unmap what nobody else holds; it is mapped again when it is asked for."""
        with self._lock:
            self._embeddings = self._items = None

    @property
    def items(self) -> "pa.ipc.RecordBatchFileReader":
        """items.arrow, memory-mapped."""
        with self._lock:
            if self._items is None:
                self._items = self._map_items()
            return self._items

    def _map_items(self) -> "pa.ipc.RecordBatchFileReader":
        path = self.directory / ITEMS
        try:
            reader = pa.ipc.open_file(map_file(path))
        except (OSError, ValueError, pa.ArrowInvalid) as error:
            raise_if_too_many_files(error)
            raise _damaged(path, error) from error
        if reader.num_record_batches != -(-self.rows // BATCH_ROWS) or reader.schema != items_schema():
            raise _damaged(
                path, f"{reader.num_record_batches} batches for {self.rows} rows, or other columns"
            )
        return reader

    def item_ids(self) -> np.ndarray:
        """(rows, 16) uint8."""
        ids = np.empty((self.rows, 16), np.uint8)
        for number in range(self.items.num_record_batches):
            column = self.items.get_batch(number).column("item_id")
            start = number * BATCH_ROWS
            data = np.frombuffer(column.buffers()[1], np.uint8, len(column) * 16, column.offset * 16)
            ids[start : start + len(column)] = data.reshape(-1, 16)
        return ids

    def table(self, columns: Sequence[str]) -> pa.Table:
        """Some columns of all items."""
        batches = [
            self.items.get_batch(i).select(list(columns)) for i in range(self.items.num_record_batches)
        ]
        return pa.Table.from_batches(batches, pa.schema([items_schema().field(name) for name in columns]))

    def read(self, rows: np.ndarray) -> list[ItemRow]:
        """The items in `rows` (n,) int64, in that order."""
        if len(rows) and (rows.min() < 0 or rows.max() >= self.rows):
            raise IndexError(f"part {self.number} has {self.rows} rows")
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        found: list[ItemRow] = [None] * len(rows)  # type: ignore[list-item]
        cuts = np.flatnonzero(np.diff(ordered // BATCH_ROWS, prepend=-1, append=-1))
        for start, stop in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
            number = int(ordered[start]) // BATCH_ROWS
            local = pa.array(ordered[start:stop] - number * BATCH_ROWS)
            batch = self.items.get_batch(number).select(_COLUMNS).take(local)
            columns = [column.to_pylist() for column in batch.columns]
            numbers = ordered[start:stop].tolist()
            for place, row, *values in zip(order[start:stop].tolist(), numbers, *columns, strict=True):
                found[place] = ItemRow._make((*values, self.number, row))
        return found


def rows_at(part: Callable[[int], Part], positions: np.ndarray, dimension: int) -> np.ndarray:
    """The stored rows (n, d) float16 at `positions` (n,) int64; `part` gives a part by its number."""
    rows = np.empty((len(positions), dimension), np.float16)
    numbers = positions >> PART_BITS
    for places in groups_of(numbers):
        rows[places] = part(int(numbers[places[0]])).mapped[positions[places] & ROW_MASK]
    return rows


def _damaged(path: Path, why: object) -> DataError:
    return DataError(f"{path} is damaged: {why}", hint="restore the index from a copy, or build it again")
