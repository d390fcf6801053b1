"""Where the images of a transfer set come from, and under which licences, as its samples.parquet tells."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from distill.data.transfer_shards import expand
from transferset.images import IMAGE_SUFFIXES

if TYPE_CHECKING:
    import pyarrow as pa

KEPT = 5
_LENGTH = 100
_COLUMNS = ("licence", "source")
_LOOSE = rf"(?i)[^/]+({'|'.join(re.escape(suffix) for suffix in sorted(IMAGE_SUFFIXES))})$"


def origins(paths: Sequence[str | Path], images: int) -> dict[str, Any]:
    """For config.json: of the `images` of `--shards`, how many have which `licence` and come from which
    `source`.

    Each as `counts` of the KEPT most frequent ones, the number of `others`, how many images these have
    (`images_of_others`), and the number of images of which it is `unknown`: their table does not say, or they
    lie in tars that have none. A loose image's source is its folder.
    """
    found: dict[str, Counter[str]] = {name: Counter() for name in _COLUMNS}
    for path in (path for given in paths for path in expand(given)):
        table_path = path / "samples.parquet"
        if not table_path.is_file():
            continue
        for name, column in _columns(table_path):
            for entry in column.value_counts().to_pylist():
                if isinstance(entry["values"], str) and entry["values"]:
                    found[name][_told(name, entry["values"])] += entry["counts"]
    return {"images": images, **{name: _summary(counts, images) for name, counts in found.items()}}


def _columns(table_path: Path) -> Iterator[tuple[str, "pa.Array"]]:
    """Pieces of the columns, by name. As a source may be another one for every image, loose ones of a folder
    have the same name here."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with pq.ParquetFile(table_path) as file:
        names = [name for name in _COLUMNS if name in file.schema_arrow.names]
        for batch in file.iter_batches(columns=names) if names else ():
            for name in names:
                column = batch.column(name)
                if name == "source" and (
                    pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
                ):
                    column = pc.replace_substring_regex(column, pattern=_LOOSE, replacement=r"x\1")
                yield name, column


def _told(column: str, value: str) -> str:
    if column == "source" and PurePosixPath(value).suffix.lower() in IMAGE_SUFFIXES:
        value = f"{PurePosixPath(value).parent}/"
    return value if len(value) <= _LENGTH else value[:_LENGTH] + "…"


def _summary(counts: Counter[str], images: int) -> dict[str, Any]:
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return {
        "counts": dict(ordered[:KEPT]),
        "others": len(ordered[KEPT:]),
        "images_of_others": sum(count for _, count in ordered[KEPT:]),
        "unknown": max(0, images - counts.total()),
    }
