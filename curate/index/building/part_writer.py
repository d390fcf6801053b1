"""Writes one part: rows as they come, then the error table and the done marker. A part is there whole or not
at all."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from curate.index.layout import (
    BATCH_ROWS,
    DONE,
    EMBEDDINGS,
    ERRORS,
    FORMAT_VERSION,
    ITEMS,
    errors_schema,
    items_schema,
    part_directory,
    part_name,
)
from curate.pools import PoolItem, Problem
from transferset.images import Header
from transferset.writes import atomic_file, atomic_path, sha256_file, write_json, write_parquet


@dataclass(frozen=True, slots=True)
class StatedSize:
    """Of an image that was not seen: the pixels that the pool's metadata states (0: it doesn't)."""

    width: int
    height: int
    format: str = ""


@dataclass(frozen=True, slots=True)
class NewRow:
    """An item that was read and embedded; `embedding` (d,) float16 is L2-normalised."""

    item: PoolItem
    item_id: bytes
    header: Header | StatedSize
    perceptual_hash: int
    embedding: np.ndarray


class PartWriter:
    """Collects the rows and problems of a part. Rows go to disk in batches of 4,096."""

    def __init__(self, embeddings: IO[bytes], items: IO[bytes], dimension: int) -> None:
        self.rows = 0
        self.problems: list[Problem] = []
        self._dimension = dimension
        self._embeddings = embeddings
        self._write_header()
        self._items = pa.ipc.new_file(items, items_schema())
        self._pending: list[NewRow] = []

    def add(self, row: NewRow) -> None:
        """Append a row; its number in the part is the number of rows before it."""
        self._pending.append(row)
        self.rows += 1
        if len(self._pending) == BATCH_ROWS:
            self._flush()

    def close(self) -> None:
        """Write what is pending and the final shape."""
        if self._pending:
            self._flush()
        self._items.close()
        self._embeddings.seek(0)
        self._write_header()

    def _write_header(self) -> None:
        """NumPy pads its header such that the number of rows can be written in later."""
        write_header(self._embeddings, self.rows, self._dimension)

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        self._embeddings.write(
            np.stack([row.embedding for row in pending]).astype("<f2", copy=False).tobytes()
        )
        self._items.write_batch(_batch(pending))


def write_header(file: IO[bytes], rows: int, dimension: int) -> None:
    """The header of embeddings.npy."""
    shape = (rows, dimension)
    np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})


def _batch(rows: Sequence[NewRow]) -> pa.RecordBatch:
    inside = [row.item.is_inside for row in rows]
    columns: dict[str, list[Any]] = {
        "item_id": [row.item_id for row in rows],
        "key": [row.item.key for row in rows],
        "root": [row.item.source.root for row in rows],
        "source": [row.item.source.path if one else None for row, one in zip(rows, inside, strict=True)],
        "offset": [row.item.offset for row in rows],
        "size": [row.item.size for row in rows],
        "path": [None if one else row.item.source.path for row, one in zip(rows, inside, strict=True)],
        "mtime_ns": [
            None if one else row.item.source.mtime_ns for row, one in zip(rows, inside, strict=True)
        ],
        "url": [row.item.url for row in rows],
        "format": [row.header.format for row in rows],
        "width": [row.header.width for row in rows],
        "height": [row.header.height for row in rows],
        "caption": [row.item.caption for row in rows],
        "perceptual_hash": [row.perceptual_hash for row in rows],
        "extra": [row.item.extra for row in rows],
    }
    return pa.record_batch(columns, schema=items_schema())


def _errors_table(problems: Sequence[Problem]) -> pa.Table:
    rows = [
        {
            "kind": problem.kind,
            "key": problem.key or None,
            "root": problem.source.root,
            "source": problem.source.path if problem.source.holds_many else None,
            "path": None if problem.source.holds_many else problem.source.path,
            "size": problem.source.size,
            "mtime_ns": problem.source.mtime_ns,
            "reason": problem.reason,
        }
        for problem in problems
    ]
    return pa.Table.from_pylist(rows, schema=errors_schema())


def short_reason(reason: str) -> str:
    """The kind of a reason, for counting: without numbers and quotations in it."""
    return reason.split(" (")[0].split(":")[0]


def count_errors(errors: pa.Table) -> dict[str, int]:
    """Images that could not be read, by kind of reason."""
    pairs = zip(errors["kind"].to_pylist(), errors["reason"].to_pylist(), strict=True)
    return dict(Counter(short_reason(reason) for kind, reason in pairs if kind == "image"))


@contextlib.contextmanager
def write_part(index: Path, number: int, dimension: int, about: dict[str, Any]) -> Iterator[PartWriter]:
    """A writer for part `number`; the part appears when the body ends without an error.

    `about` goes into done.json and may be filled in the body. On an error nothing of the part stays.
    """
    with atomic_path(part_directory(index, number)) as directory:
        directory.mkdir()
        with atomic_file(directory / EMBEDDINGS) as embeddings, atomic_file(directory / ITEMS) as items:
            writer = PartWriter(embeddings, items, dimension)
            yield writer
            writer.close()
        finish_part(directory, number, (writer.rows, dimension), _errors_table(writer.problems), about)


def finish_part(
    directory: Path, number: int, shape: tuple[int, int], errors: pa.Table, about: dict[str, Any]
) -> None:
    """Write what comes last, the error table and done.json, of a part whose `shape` is (rows, dimension)."""
    write_parquet(directory / ERRORS, errors)
    rows, dimension = shape
    done = {
        "format_version": FORMAT_VERSION,
        "number": number,
        "name": part_name(number),
        "rows": rows,
        "dimension": dimension,
        "errors": count_errors(errors),
        "checksums": {name: sha256_file(directory / name) for name in (EMBEDDINGS, ITEMS, ERRORS)},
        **about,
    }
    write_json(directory / DONE, done)
