"""Parquet tables with images: their bytes in a column, or their paths.

A column of bytes may be plain, or a struct with a field `bytes` as HuggingFace's datasets write it. Rows with
paths are loose files about which the table says something.
"""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from curate.pools.columns import PATH, TableRow, column_of, read_rows, values
from curate.pools.items import PoolItem, Source
from curate.pools.remote import PoolPath
from curate.pools.row_groups import RowGroups, damage
from transferset.errors import DataError

BYTES = ("bytes", "image_bytes", "image", "img", "jpg", "jpeg", "png", "webp")
_BATCH_ROWS, _BATCH_BYTES = 256, 32 << 20
TableKind = Literal["bytes", "path"]


def image_column(schema: pa.Schema) -> str | None:
    """The column with the encoded images; None if there is none."""
    fitting = [entry.name for entry in schema if _holds_bytes(entry.type)]
    return column_of(fitting, BYTES)


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and _holds_bytes(kind.field(place).type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def kind_of(path: PoolPath) -> TableKind | None:
    """What a table is to a pool: images by their bytes, images by their paths, or (None) neither.

    DataError (a reason) if it is damaged. OSError as `open` raises it.
    """
    try:
        with path.open("rb") as file:
            schema = pq.read_schema(file)
    except pa.ArrowException as error:
        raise DataError(damage(error)) from error
    if image_column(schema) is not None:
        return "bytes"
    return "path" if _path_column(schema) is not None else None


def _path_column(schema: pa.Schema) -> str | None:
    texts = [entry.name for entry in schema if entry.type in (pa.string(), pa.large_string())]
    return column_of(texts, PATH)


def count_rows(path: PoolPath) -> int:
    """Rows of a table; 0 if it can't be read."""
    try:
        with path.open("rb") as file:
            return int(pq.read_metadata(file).num_rows)
    except (OSError, pa.ArrowException):
        return 0


def table_items(path: PoolPath, source: Source) -> Iterator[PoolItem]:
    """The items of a table with bytes, which they carry along; a row without bytes has empty ones.

    DataError (a reason for the error table) where the table is damaged; what came before is whole. OSError if
    it can't be read.
    """
    try:
        with path.open("rb") as file, pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False) as table:
            name = image_column(table.schema_arrow)
            if name is None:
                raise DataError("it has no column with images any more")
            row, rows = 0, _batch_rows(table)
            for group in range(table.num_row_groups):  # a batch across groups would lose the whole ones
                for batch in table.iter_batches(rows, row_groups=[group]):
                    yield from _batch_items(batch, name, source, row)
                    row += batch.num_rows
    except pa.ArrowException as error:
        raise DataError(damage(error)) from error
    except OSError as error:
        if error.errno is None:  # Arrow's, for what it can't decode
            raise DataError(damage(error)) from error
        raise


def _batch_rows(table: pq.ParquetFile) -> int:
    groups = (table.metadata.row_group(number) for number in range(table.num_row_groups))
    average = sum(group.total_byte_size for group in groups) // max(1, table.metadata.num_rows)
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(1, average)))


def _batch_items(batch: pa.RecordBatch, name: str, source: Source, first: int) -> Iterator[PoolItem]:
    images = values(batch.column(batch.schema.names.index(name)))
    abouts = read_rows(batch, besides=[name], sized=False)
    stem = PurePosixPath(source.path).with_suffix("").as_posix()
    for row, (image, about) in enumerate(zip(images, abouts, strict=True), first):
        data = _bytes(image)
        key = about.key or _name(image) or f"{stem}/{row}"
        yield PoolItem(key, source, row, len(data), about.caption, about.url, about.extra, data)


def _bytes(image: Any) -> bytes:
    data = image.get("bytes") if isinstance(image, dict) else image
    return data if isinstance(data, bytes) else b""


def _name(image: Any) -> str | None:
    """The name that a HuggingFace image has beside its bytes, without its suffix."""
    path = image.get("path") if isinstance(image, dict) else None
    return (
        PurePosixPath(path).with_suffix("").as_posix() if isinstance(path, str) and path.strip("/.") else None
    )


def read_table_bytes(groups: RowGroups, path: PoolPath, row: int) -> bytes:
    """The image in a row of a table with bytes. DataError or OSError if it can't be had."""
    name = image_column(groups.schema(path))
    if name is None:
        raise DataError("it has no column with images: it was replaced")
    return _bytes(values(groups.row(path, (name,), row).column(0))[0])


def table_paths(path: Path) -> list[str | None]:
    """The paths in a table, absolute, by row; None where a row has none.

    DataError (a reason) if it is damaged. OSError if it can't be read.
    """
    try:
        with path.open("rb") as file:
            table = pq.ParquetFile(file)
            name = _path_column(table.schema_arrow)
            column = values(table.read(columns=[name]).column(0)) if name is not None else []
    except pa.ArrowException as error:
        raise DataError(damage(error)) from error
    return [os.path.normpath(path.parent / one) if one and one.strip() else None for one in column]


class FileTables:
    """What tables say about the loose files that they name."""

    def __init__(self) -> None:
        self._groups = RowGroups()

    def find(self, source: Source) -> TableRow | None:
        """The row of a loose file; None if no table names it. DataError or OSError if the table can't be
        read."""
        if not source.table:
            return None
        table = Path(source.table)
        names = tuple(dict.fromkeys(self._groups.schema(table).names))
        return read_rows(self._groups.row(table, names, source.table_row), sized=False)[0]
