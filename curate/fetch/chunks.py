"""What a download leaves on disk: for each chunk of URLs the bytes in one file, and a table of outcomes.

`<name>.bin` holds the images one after the other, `<name>.parquet` one row per URL. The table comes last, by
a rename: a chunk without one has not ended.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from curate.fetch.reasons import parse
from transferset.copies import item_id
from transferset.errors import DataError
from transferset.prompts import valid_text
from transferset.writes import atomic_file, write_parquet

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a chosen image: bytes (`offset` and `size` in `data`), or a reason. `place` is its
    number among the chosen."""

    place: int
    reason: str | None
    detail: str | None
    offset: int
    size: int
    item_id: bytes
    data: Path

    def read(self) -> bytes:
        """The image's bytes; DataError if they are not those that were downloaded."""
        with self.data.open("rb") as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if item_id(data) != self.item_id:
            raise DataError(
                f"{self.data} is damaged", hint="remove this file and the .parquet beside it, and run again"
            )
        return data


@cache
def _schema() -> "pa.Schema":
    import pyarrow as pa

    return pa.schema(
        {
            "place": pa.int64(),
            "reason": pa.string(),
            "detail": pa.string(),
            "offset": pa.int64(),
            "size": pa.int64(),
            "item_id": pa.binary(16),
        }
    )


class ChunkFile:
    """A chunk while it is written. `finish` puts it in place; before that it isn't there."""

    def __init__(self, folder: Path, name: str) -> None:
        self._table = folder / f"{name}.parquet"
        self._stack = contextlib.ExitStack()
        self._file: IO[bytes] = self._stack.enter_context(atomic_file(folder / f"{name}.bin"))
        self._rows: list[dict[str, Any]] = []
        self._end = 0

    def add(self, place: int, data: bytes) -> None:
        """Bytes that came."""
        self._file.write(data)
        known = {"offset": self._end, "size": len(data), "item_id": item_id(data)}
        self._rows.append({"place": place, **known})
        self._end += len(data)

    def fail(self, place: int, reason: str, detail: str) -> None:
        """Bytes that didn't."""
        self._rows.append({"place": place, "reason": reason, "detail": valid_text(detail)})

    def finish(self) -> None:
        """Everything is on disk when this returns."""
        import pyarrow as pa

        self._stack.close()
        rows = sorted(self._rows, key=lambda row: row["place"])
        write_parquet(self._table, pa.Table.from_pylist(rows, schema=_schema()))

    def drop(self) -> None:
        """Leave nothing behind."""
        self._stack.__exit__(DataError, DataError("dropped"), None)


class ChunkWriter:
    """A chunk as one of img2dataset's sample writers, which its downloader makes and feeds.

    The downloader only prints what a writer raises for a sample, so the first error waits for `close`.
    """

    def __init__(
        self,
        shard_id: int,
        output_folder: str,
        save_caption: bool,
        oom_shard_count: int,
        schema: "pa.Schema",
        encode_format: str,
    ) -> None:
        self._chunk = ChunkFile(Path(output_folder), chunk_name(shard_id))
        self._error: OSError | None = None

    def write(self, img_str: bytes | None, key: str, caption: str | None, meta: dict[str, Any]) -> None:
        """One outcome; `meta` has the columns that the downloader was given, and its error message."""
        if self._error is not None:
            return
        try:
            if img_str is None:
                self._chunk.fail(meta["place"], *parse(meta["error_message"] or "no answer"))
            else:
                self._chunk.add(meta["place"], img_str)
        except OSError as error:
            self._error = error

    def close(self) -> None:
        """Put the chunk in place, or raise what went wrong."""
        if self._error is not None:
            self._chunk.drop()
            raise self._error
        self._chunk.finish()


def chunk_name(number: int) -> str:
    """The file name of a chunk, without suffix."""
    return f"{number:06d}"


def finished_chunks(folder: Path) -> list[Path]:
    """The tables of the chunks in `folder` that have ended, by name."""
    return sorted(path for path in folder.glob("*.parquet") if path.with_suffix(".bin").is_file())


def read_chunk(table: Path) -> Iterator[Outcome]:
    """The outcomes of a chunk, by place; DataError if it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = table.with_suffix(".bin")
    try:
        rows = pq.read_table(table, schema=_schema()).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{table} is damaged: {error}", hint="remove it and run the same command") from error
    for row in rows:
        identity, offset, size = row["item_id"] or b"", row["offset"] or 0, row["size"] or 0
        yield Outcome(row["place"], row["reason"], row["detail"], offset, size, identity, data)
