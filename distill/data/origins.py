"""Where the images of a transfer set come from, and under which licences, as its samples.parquet tells."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from distill.data.transfer_shards import expand
from transferset.images import IMAGE_SUFFIXES

KEPT = 5
_LENGTH = 100
_COLUMNS = ("licence", "source")


def origins(paths: Sequence[str | Path], images: int) -> dict[str, Any]:
    """For config.json: of the `images` of `--shards`, how many have which `licence` and come from which
    `source`.

    Each as `counts` of the KEPT most frequent ones, the number of `others`, how many images these have
    (`images_of_others`), and the number of images of which it is `unknown`: their table does not say, or they
    lie in tars that have none. A loose image's source is its folder.
    """
    import pyarrow.parquet as pq

    found: dict[str, Counter[str]] = {name: Counter() for name in _COLUMNS}
    for path in (path for given in paths for path in expand(given)):
        table_path = path / "samples.parquet"
        if not table_path.is_file():
            continue
        names = [name for name in _COLUMNS if name in pq.read_schema(table_path).names]
        table = pq.read_table(table_path, columns=names)
        for name in names:
            for entry in table.column(name).value_counts().to_pylist():
                if isinstance(entry["values"], str) and entry["values"]:
                    found[name][_told(name, entry["values"])] += entry["counts"]
    return {"images": images, **{name: _summary(counts, images) for name, counts in found.items()}}


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
