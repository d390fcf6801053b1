"""manifest.json and parts.parquet: what readers go by. They change together, the manifest last."""

import contextlib
import hashlib
import io
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.index.layout import DONE, FORMAT_VERSION, MANIFEST, PARTS, PARTS_TABLE, PLAN, parts_schema
from curate.index.part import Part
from transferset.errors import DataError
from transferset.reads import read_bytes
from transferset.writes import atomic_file, read_json, sha256_file

_RACE_TRIES = 5
_RACE_SECONDS = 0.1


@dataclass(frozen=True)
class FinishedPart:
    """A part with its done.json and the checksum of that file."""

    number: int
    directory: Path
    done: dict[str, Any]
    checksum: str

    @property
    def rows(self) -> int:
        return int(self.done["rows"])

    @property
    def error_count(self) -> int:
        return sum(self.done["errors"].values())

    @property
    def replaces(self) -> list[int]:
        """Numbers of older parts that this one stands for since `compact`."""
        return list(self.done.get("replaces", []))

    def open(self) -> Part:
        return Part(self.number, self.rows, self.directory, int(self.done["dimension"]))


def finished_parts(index: Path) -> list[FinishedPart]:
    """Every part on disk, by number, whether or not the manifest knows it; not those that another one
    replaces."""
    found = []
    folder = Path(index) / PARTS
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    for name in names:
        if name.isdecimal() and (folder / name / DONE).is_file():
            found.append(finished_part(folder / name))
    replaced = {number for part in found for number in part.replaces}
    return sorted((part for part in found if part.number not in replaced), key=lambda part: part.number)


def finished_part(directory: Path) -> FinishedPart:
    """The part in `directory`; DataError if its done.json is missing or damaged."""
    path = directory / DONE
    done = read_json(path)
    if not isinstance(done, dict) or not {
        "format_version",
        "number",
        "rows",
        "errors",
        "dimension",
        "sources",
        "fingerprint",
    } <= set(done):
        raise DataError(f"{path} is damaged: it lacks fields", hint="restore the index from a copy")
    require_format(done["format_version"], path)
    return FinishedPart(int(done["number"]), directory, done, sha256_file(path))


def parts_table(parts: Sequence[FinishedPart]) -> bytes:
    """The bytes of parts.parquet."""
    rows = [
        {
            "number": part.number,
            "name": part.directory.name,
            "rows": part.rows,
            "errors": part.error_count,
            "checksum": part.checksum,
        }
        for part in parts
    ]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=parts_schema()), buffer, compression="zstd")
    return buffer.getvalue()


def digest(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def write_manifest(index: Path, table: bytes, manifest: dict[str, Any]) -> None:
    """Put parts.parquet and manifest.json in place. Both are on disk before either is renamed, so that a full
    disk leaves the old pair."""
    text = json.dumps(manifest, indent=2, sort_keys=True, allow_nan=False) + "\n"
    with atomic_file(index / MANIFEST) as manifest_file:
        manifest_file.write(text.encode())
        manifest_file.flush()
        with atomic_file(index / PARTS_TABLE) as table_file:
            table_file.write(table)


def require_format(version: object, path: Path) -> None:
    """DataError if the file `path` has another `format_version` than ours."""
    if version != FORMAT_VERSION:
        raise DataError(
            f"{path}: format_version {version}, this program reads {FORMAT_VERSION}",
            hint="use the version of transferset that wrote it, or build the index again",
        )


def refuse_other_format(index: Path) -> None:
    """DataError if the manifest that a build would replace is of another format; a damaged one may go."""
    manifest = None
    with contextlib.suppress(DataError):
        manifest = read_json(index / MANIFEST)
    if isinstance(manifest, dict) and "format_version" in manifest:
        require_format(manifest["format_version"], index / MANIFEST)


def read_manifest(index: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The manifest and the rows of parts.parquet that it vouches for.

    Raises DataError naming what is missing or doesn't match. A writer that is just replacing the two is
    waited for.
    """
    index = Path(index)
    _require_index(index)
    for attempt in range(_RACE_TRIES):
        manifest = read_json(index / MANIFEST)
        try:
            version = manifest["format_version"]
            expected = manifest["parts"]["sha256"]
        except (KeyError, TypeError) as error:
            raise DataError(f"{index / MANIFEST} is damaged: it lacks {error}") from error
        require_format(version, index / MANIFEST)
        table = read_bytes(index / PARTS_TABLE)
        if digest(table) == expected:
            return manifest, _rows(index / PARTS_TABLE, table)
        if attempt + 1 < _RACE_TRIES:
            time.sleep(_RACE_SECONDS)
    raise DataError(
        f"{index}: {PARTS_TABLE} is not the one that {MANIFEST} was written with",
        hint="if build-index or compact was killed at its very end, run it again; else restore a copy",
    )


def _require_index(index: Path) -> None:
    if not index.is_dir():
        raise DataError(
            f"{index} is not an index: there is no such folder", hint="curate build-index makes one"
        )
    missing = [name for name in (PLAN, MANIFEST, PARTS_TABLE, PARTS) if not (index / name).exists()]
    if PLAN in missing:
        raise DataError(
            f"{index} is not an index: it has no {', '.join(missing)}", hint="curate build-index makes one"
        )
    if missing:
        raise DataError(
            f"{index} is not finished: it has a plan, but no {', '.join(missing)}",
            hint="run the same curate build-index again: it resumes where it stopped",
        )


def _rows(path: Path, table: bytes) -> list[dict[str, Any]]:
    # Without threads: they may still be starting when a usage error ends the process, which aborts it.
    try:
        rows: list[dict[str, Any]] = pq.read_table(pa.BufferReader(table), use_threads=False).to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} is damaged: {error}") from error
    return rows
