"""Names and columns of the index on disk; `index_data/README.md` explains them to others."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT_VERSION = 1
BATCH_ROWS = 4_096
PART_BITS = 32
ROW_MASK = (1 << PART_BITS) - 1

PLAN = "plan.json"
MANIFEST = "manifest.json"
PARTS_TABLE = "parts.parquet"
PARTS = "parts"
EMBEDDINGS = "embeddings.npy"
ITEMS = "items.arrow"
ERRORS = "errors.parquet"
DONE = "done.json"
IDS = "ids"
FAISS = "faiss"
VIEWS_CACHE = "views"
WHITENING = "whitening.safetensors"
THRESHOLDS = "thresholds"
"""The manifest's field for what `curate calibrate` found; None or missing: never calibrated."""
WORK = "building.parquet"
LEDGER = "forgotten.parquet"
LEDGER_LOCK = ".lock-forgotten"
WORK_LOCK = ".lock-building"


def part_name(number: int) -> str:
    """The folder name of a part."""
    return f"{number:06d}"


def part_directory(index: Path, number: int) -> Path:
    """The folder of a part."""
    return index / PARTS / part_name(number)


@cache
def items_schema() -> "pa.Schema":
    """Columns of items.arrow. `source` is set for members of a tar, `path` for loose files."""
    import pyarrow as pa

    columns = {
        "item_id": pa.binary(16),
        "key": pa.string(),
        "root": pa.int32(),
        "source": pa.string(),
        "offset": pa.int64(),
        "size": pa.int64(),
        "path": pa.string(),
        "mtime_ns": pa.int64(),
        "url": pa.string(),
        "format": pa.string(),
        "width": pa.int32(),
        "height": pa.int32(),
        "caption": pa.string(),
        "perceptual_hash": pa.uint64(),
        "extra": pa.string(),
    }
    required = {"item_id", "key", "root", "size", "format", "width", "height", "perceptual_hash"}
    return pa.schema([pa.field(name, kind, nullable=name not in required) for name, kind in columns.items()])


@cache
def errors_schema() -> "pa.Schema":
    """Columns of errors.parquet."""
    import pyarrow as pa

    columns = {
        "kind": pa.string(),
        "key": pa.string(),
        "root": pa.int32(),
        "source": pa.string(),
        "path": pa.string(),
        "size": pa.int64(),
        "mtime_ns": pa.int64(),
        "reason": pa.string(),
    }
    return pa.schema(list(columns.items()))


@cache
def parts_schema() -> "pa.Schema":
    """Columns of parts.parquet; `checksum` is the SHA-256 of the part's done.json, which holds those of the
    rest."""
    import pyarrow as pa

    columns = {
        "number": pa.int32(),
        "name": pa.string(),
        "rows": pa.int64(),
        "errors": pa.int64(),
        "checksum": pa.string(),
    }
    return pa.schema(list(columns.items()))


@cache
def work_schema() -> "pa.Schema":
    """Columns of building.parquet: one row per source; `images` are those of the whole part."""
    import pyarrow as pa

    columns = {
        "number": pa.int32(),
        "images": pa.int64(),
        "root": pa.int32(),
        "path": pa.string(),
        "size": pa.int64(),
        "mtime_ns": pa.int64(),
        "first": pa.int64(),
        "rows": pa.int64(),
        "table": pa.string(),
        "table_row": pa.int64(),
    }
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


@cache
def ledger_schema() -> "pa.Schema":
    """Columns of forgotten.parquet: who asked when (UTC) and why, and how the item was named."""
    import pyarrow as pa

    columns = {
        "item_id": pa.binary(16),
        "who": pa.string(),
        "when": pa.timestamp("s", "UTC"),
        "why": pa.string(),
        "how": pa.string(),
    }
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])
