"""Single rows of Parquet files, in any order: whole row groups are decoded and kept for a while."""

import contextlib
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.pools.remote import PoolPath
from transferset.errors import DataError

BUDGET = 512 << 20
"""Bytes of decoded row groups that are kept; a group that is larger is streamed for every row."""
_OPEN_FILES = 64
_STREAM_ROWS = 64


@dataclass
class _Opened:
    file: pq.ParquetFile
    ends: list[int]
    """How many rows there are up to the end of each row group."""


def damage(error: Exception) -> str:
    """What Arrow says of a damaged file, as a short reason."""
    return f"damaged: {(str(error).splitlines() or [type(error).__name__])[0][:200]}"


def _parquet(path: PoolPath) -> pq.ParquetFile:
    handle = path.open("rb")
    try:
        return pq.ParquetFile(handle, buffer_size=1 << 20, pre_buffer=False)
    except BaseException:
        handle.close()
        raise


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What Arrow says of damage, as DataError."""
    try:
        yield
    except (pa.ArrowException, KeyError) as error:
        raise DataError(damage(error)) from error
    except OSError as error:
        if error.errno is None:  # Arrow's, for what it can't decode
            raise DataError(damage(error)) from error
        raise


class RowGroups:
    """A bounded cache over any number of files; threads may share it."""

    def __init__(self, budget: int = BUDGET) -> None:
        self._budget = budget
        self._files: OrderedDict[PoolPath, _Opened] = OrderedDict()
        self._groups: OrderedDict[tuple[PoolPath, int, tuple[str, ...]], pa.Table] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def schema(self, path: PoolPath) -> pa.Schema:
        """The columns of a file. Errors as of `row`."""
        with _told(), self._lock:
            return self._open(path).file.schema_arrow

    def row(self, path: PoolPath, columns: tuple[str, ...], row: int) -> pa.Table:
        """One row of a file, as a table with these columns.

        DataError if the file is damaged or has no such row; OSError if it can't be read.
        """
        with _told(), self._lock:
            opened = self._open(path)
            group = bisect_right(opened.ends, row)
            if row < 0 or group == len(opened.ends):
                raise DataError(f"it has no row {row}: it was replaced")
            local = row - (opened.ends[group - 1] if group else 0)
            return self._row(path, opened, columns, group, local)

    def _open(self, path: PoolPath) -> _Opened:
        opened = self._files.get(path)
        if opened is None:
            file = _parquet(path)
            rows = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            opened = self._files[path] = _Opened(file, list(accumulate(rows)))
            if len(self._files) > _OPEN_FILES:
                _, old = self._files.popitem(last=False)
                old.file.close(force=True)
        self._files.move_to_end(path)
        return opened

    def _row(
        self, path: PoolPath, opened: _Opened, columns: tuple[str, ...], group: int, local: int
    ) -> pa.Table:
        key = (path, group, columns)
        table = self._groups.get(key)
        if table is None:
            if _size(opened.file.metadata.row_group(group), columns) > self._budget:
                return _streamed(opened.file, columns, group, local)
            table = self._groups[key] = opened.file.read_row_group(group, columns=list(columns))
            self._bytes += table.nbytes
            while self._bytes > self._budget and len(self._groups) > 1:
                self._bytes -= self._groups.popitem(last=False)[1].nbytes
        self._groups.move_to_end(key)
        return table.slice(local, 1)


def _size(group: Any, columns: tuple[str, ...]) -> int:
    """Decoded bytes of some columns of a row group, about."""
    chunks = (group.column(number) for number in range(group.num_columns))
    return sum(
        chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema.split(".")[0] in columns
    )


def _streamed(file: pq.ParquetFile, columns: tuple[str, ...], group: int, local: int) -> pa.Table:
    for batch in file.iter_batches(_STREAM_ROWS, row_groups=[group], columns=list(columns)):
        if local < batch.num_rows:
            return pa.Table.from_batches([batch.slice(local, 1)])
        local -= batch.num_rows
    raise DataError("it ends within a row group: it is cut off or was replaced")
