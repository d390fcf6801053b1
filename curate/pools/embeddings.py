"""Ready embeddings: the folder that clip-retrieval's inference writes, as LAION publishes it.

    img_emb/img_emb_0.npy …            (n, d) float16 or float32, one image per row
    metadata/metadata_0.parquet …      the same rows: url, caption, image_path, …

Files belong together by the number that their names end with. There are no images: an item is named by its
URL or, where there are no URLs, by its path.
"""

import errno
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.pools.columns import PATH, URL, TableRow, column_of, read_rows
from curate.pools.items import Source
from curate.pools.regular import GONE
from transferset.errors import DataError, InterruptedRun

EMBEDDINGS_FOLDER = "img_emb"
METADATA_FOLDER = "metadata"
PIECE_ROWS = 1 << 20
"""Rows of a part; a longer file is cut."""
BLOCK_ROWS = 4_096
_NUMBER = re.compile(r"(\d+)$")


def holds_embeddings(folder: str | Path) -> bool:
    """Whether a folder has the layout of ready embeddings."""
    return any(Path(folder, EMBEDDINGS_FOLDER).glob("*.npy"))


def name_id(name: str) -> bytes:
    """The item id of an image that is known by its URL or path only: the first 128 bits of the text's
    SHA-256."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:16]


@dataclass(frozen=True)
class NpyHeader:
    """Shape, type and place of the rows in an `.npy` file."""

    rows: int
    dimension: int
    dtype: np.dtype
    start: int

    @property
    def row_bytes(self) -> int:
        return self.dimension * self.dtype.itemsize


def read_header(path: Path) -> NpyHeader:
    """Look at an `.npy` file without reading its rows.

    DataError (a reason for the error table) if it is damaged, cut off, or holds something else than rows of
    float16 or float32. OSError as `open` raises it.
    """
    with path.open("rb") as file:
        header = _parse_header(file)
        length = file.seek(0, 2)
    whole = (length - header.start) // max(1, header.row_bytes)
    if whole < header.rows:
        raise DataError(f"cut off: it holds {max(0, whole)} of its {header.rows} rows")
    return header


def _parse_header(file: IO[bytes]) -> NpyHeader:
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = read[version](file)
    except (ValueError, KeyError, EOFError) as error:
        raise DataError(f"not an npy file: {str(error).splitlines()[0]}") from error
    if len(shape) != 2 or shape[1] < 1 or fortran:
        raise DataError(f"not rows of embeddings: its shape is {shape}" + (", by columns" if fortran else ""))
    if dtype not in (np.dtype("<f2"), np.dtype("<f4")):
        raise DataError(f"not float16 or float32 but {dtype}")
    return NpyHeader(shape[0], shape[1], dtype, file.tell())


@dataclass
class EmbeddingFiles:
    """The files of one folder of ready embeddings: `pairs` by number, what was left out and why, how items
    are named ("url", "path"; None: no table says), and the dimension of each file whose header is whole."""

    pairs: dict[int, tuple[Path, Path]] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    id_kind: str | None = None
    headers: dict[int, NpyHeader] = field(default_factory=dict)


def find_embeddings(folder: Path) -> EmbeddingFiles:
    """Match the files of a folder for which `holds_embeddings` is true."""
    found = EmbeddingFiles()
    arrays = _numbered(folder / EMBEDDINGS_FOLDER, ".npy", found)
    tables = _numbered(folder / METADATA_FOLDER, ".parquet", found)
    for number in sorted(arrays.keys() | tables.keys()):
        if number not in tables:
            missing = f"no metadata: {METADATA_FOLDER}/ has no file with the number {number}"
            found.skipped.append((str(arrays[number]), missing))
        elif number not in arrays:
            missing = f"no embeddings: {EMBEDDINGS_FOLDER}/ has no file with the number {number}"
            found.skipped.append((str(tables[number]), missing))
        else:
            found.pairs[number] = (arrays[number], tables[number])
            _look(found, number)
    return found


def _numbered(folder: Path, suffix: str, found: EmbeddingFiles) -> dict[int, Path]:
    numbered: dict[int, Path] = {}
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in paths:
        match = _NUMBER.search(path.stem)
        if path.suffix != suffix or path.name.startswith("."):
            continue
        if match is None:
            found.skipped.append((str(path), "its name does not end with a number"))
        elif (number := int(match.group(1))) in numbered:
            found.skipped.append((str(path), f"{numbered[number].name} has the same number"))
        else:
            numbered[number] = path
    return numbered


def _look(found: EmbeddingFiles, number: int) -> None:
    """Note the header, and how the table names its items. What can't be read is told with its part."""
    array, table = found.pairs[number]
    try:
        found.headers[number] = read_header(array)
        names = pq.read_schema(table).names
    except (OSError, DataError, pa.ArrowException):
        return
    if column_of(names, URL) is not None:
        found.id_kind = "url"
    elif found.id_kind is None and column_of(names, PATH) is not None:
        found.id_kind = "path"


def metadata_of(array: Path) -> Path:
    """The table with the metadata of an embedding file."""
    match = _NUMBER.search(array.stem)
    folder = array.parent.parent / METADATA_FOLDER
    for path in sorted(folder.glob("*.parquet")):
        other = _NUMBER.search(path.stem)
        if match and other and int(match.group(1)) == int(other.group(1)):
            return path
    raise FileNotFoundError(errno.ENOENT, "no metadata with its number", str(folder))


@dataclass(frozen=True)
class Block:
    """Consecutive rows: number of the first in the file, embeddings (n, d) float32 as stored, metadata."""

    first: int
    embeddings: np.ndarray
    rows: list[TableRow]


def read_blocks(array: Path, source: Source) -> Iterator[Block]:
    """The rows of a piece (`source.first`, `source.rows`) in bounded memory.

    Raises:
        DataError: the pair is damaged or does not fit together (a reason for the error table). Blocks that
            came before are good.
        InterruptedRun: the disk fails.
    """
    try:
        header = read_header(array)
        with (
            array.open("rb") as file,
            pq.ParquetFile(metadata_of(array), buffer_size=1 << 20, pre_buffer=False) as table,
        ):
            if table.metadata.num_rows != header.rows:
                raise DataError(f"{header.rows} embeddings, but {table.metadata.num_rows} rows of metadata")
            row = source.first
            for rows in _table_rows(table, source.first, source.rows):
                yield Block(row, _embeddings(file, header, row, len(rows)), rows)
                row += len(rows)
    except pa.ArrowException as error:
        raise DataError(f"its metadata is damaged: {_line(error)}") from error
    except OSError as error:
        if error.errno is None:  # Arrow's, for damaged Parquet
            raise DataError(f"its metadata is damaged: {_line(error)}") from error
        if error.errno in GONE:
            raise DataError(f"cannot be read: {error.strerror}") from error
        raise InterruptedRun(
            f"{array} cannot be read: {error.strerror or error}",
            hint="when the pool can be reached again, run the same command: it resumes where it stopped",
        ) from error


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _table_rows(table: pq.ParquetFile, first: int, count: int) -> Iterator[list[TableRow]]:
    """Rows `first` to `first + count` in blocks; row groups before are not read."""
    groups, start = [], 0
    begin = None
    for group in range(table.num_row_groups):
        rows = table.metadata.row_group(group).num_rows
        if start + rows > first and start < first + count:
            begin = start if begin is None else begin
            groups.append(group)
        start += rows
    skip = first - (begin or 0)
    for batch in table.iter_batches(BLOCK_ROWS, row_groups=groups):
        kept = batch.slice(skip, count)
        skip = max(0, skip - batch.num_rows)
        count -= kept.num_rows
        if kept.num_rows:
            yield read_rows(kept)


def _embeddings(file: IO[bytes], header: NpyHeader, first: int, count: int) -> np.ndarray:
    file.seek(header.start + first * header.row_bytes)
    data = file.read(count * header.row_bytes)
    if len(data) < count * header.row_bytes:
        raise DataError("cut off while it was read")
    return np.frombuffer(data, header.dtype).reshape(count, header.dimension).astype(np.float32)


def read_embedding(array: Path, row: int) -> np.ndarray:
    """One row (d,) float32 as stored. DataError or OSError if it can't be had."""
    header = read_header(array)
    if not 0 <= row < header.rows:
        raise DataError(f"it has {header.rows} rows, no row {row}")
    with array.open("rb") as file:
        return np.asarray(_embeddings(file, header, row, 1)[0])
