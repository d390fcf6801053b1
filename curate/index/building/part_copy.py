"""A part once more, without some of its rows: what `compact` writes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.index.building.part_writer import finish_part, write_header
from curate.index.layout import (
    BATCH_ROWS,
    EMBEDDINGS,
    ERRORS,
    ITEMS,
    errors_schema,
    items_schema,
    part_directory,
)
from curate.index.manifest import FinishedPart, finished_part
from curate.index.part import Part
from curate.pools import FORGOTTEN
from transferset.errors import DataError
from transferset.writes import atomic_file, atomic_path

_CHUNK_ROWS = 65_536
SourceKey = tuple[int, str]
"""Number of the root and path of a source."""


@dataclass(frozen=True)
class Purge:
    """What leaves a part: rows whose item is `forgotten`, and those of sources that are `gone` (masks (n,)
    over its rows); `gone_sources` are these sources."""

    forgotten: np.ndarray
    gone: np.ndarray
    gone_sources: frozenset[SourceKey]

    @property
    def kept(self) -> np.ndarray:
        """Mask of the rows that stay."""
        return ~(self.forgotten | self.gone)

    def __bool__(self) -> bool:
        return bool(self.gone_sources) or not self.kept.all()


def copy_part(index: Path, number: int, old: FinishedPart, purge: Purge) -> FinishedPart:
    """Write part `number`, which replaces `old`. It is there whole or not at all; `old` is left as it is.

    What builds have to know stays: the sources that were read, and which loose files were forgotten.
    """
    about = {name: old.done[name] for name in ("fingerprint", "encoder_fingerprint", "runtime")}
    about["sources"] = [
        one for one in old.done["sources"] if (one["root"], one["path"]) not in purge.gone_sources
    ]
    about["replaces"] = sorted({old.number, *old.replaces})
    opened = old.open()
    directory = part_directory(index, number)
    with atomic_path(directory) as temporary:
        temporary.mkdir()
        rows = _copy_rows(temporary, opened, purge.kept)
        finish_part(temporary, number, (rows, opened.dimension), _errors(old, opened, purge), about)
    return finished_part(directory)


def _copy_rows(directory: Path, part: Part, kept: np.ndarray) -> int:
    rows = int(kept.sum())
    with atomic_file(directory / EMBEDDINGS) as file:
        write_header(file, rows, part.dimension)
        for start in range(0, part.rows, _CHUNK_ROWS):
            chunk = slice(start, start + _CHUNK_ROWS)
            file.write(part.mapped[chunk][kept[chunk]].astype("<f2", copy=False).tobytes())
    table = part.table(items_schema().names).filter(pa.array(kept)).combine_chunks()
    with (
        atomic_file(directory / ITEMS) as file,
        pa.ipc.new_file(file, items_schema()) as writer,
    ):
        for start in range(0, rows, BATCH_ROWS):
            for batch in table.slice(start, BATCH_ROWS).combine_chunks().to_batches():
                writer.write_batch(batch)
    return rows


def _errors(old: FinishedPart, part: Part, purge: Purge) -> pa.Table:
    """The error table without the sources that are gone, and with the loose files that were forgotten: a
    build must know them, or it would take them for new ones."""
    path = old.directory / ERRORS
    try:
        errors = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} is damaged: {error}", hint="curate verify says what to do") from error
    rows: list[dict[str, Any]] = [row for row in errors.to_pylist() if _source(row) not in purge.gone_sources]
    columns = ["root", "source", "path", "size", "mtime_ns"]
    forgotten = part.table(columns).filter(pa.array(purge.forgotten & ~purge.gone)).to_pylist()
    for row in forgotten:
        if row["path"] is not None:
            rows.append({**row, "kind": "forgotten", "key": None, "reason": FORGOTTEN})
    return pa.Table.from_pylist(rows, schema=errors_schema())


def _source(row: dict[str, Any]) -> SourceKey:
    return row["root"], row["source"] if row["source"] is not None else row["path"]
