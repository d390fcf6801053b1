"""What an index is, without opening its rows."""

from pathlib import Path
from typing import Any

from curate.index.faiss_file import read_about
from curate.index.ids import generation
from curate.index.layout import FAISS, IDS
from curate.index.manifest import finished_parts, read_manifest
from curate.index.plan import read_plan


def info(index: Path) -> dict[str, Any]:
    """Describe the index at `index`, as JSON types.

    `pools` says for each root where it is and whether it can be found; `caches` which caches fit the present
    parts; `unfinished_parts` counts parts that a build has written and not yet entered (run it again).

    Raises DataError as `open_index` does.
    """
    index = Path(index)
    manifest, rows = read_manifest(index)
    plan, roots = read_plan(index)
    listed = {int(row["number"]) for row in rows}
    written = finished_parts(index)
    sha256 = manifest["parts"]["sha256"]
    paths = [roots.path(number) for number in range(len(roots))]
    return {
        "index": str(index),
        "format_version": manifest["format_version"],
        "encoder": plan.encoder.spec,
        "encoder_fingerprint": plan.encoder.fingerprint,
        "image_size": plan.encoder.preprocessing["size"],
        "dimension": plan.encoder.dimension,
        "runtime": f"{plan.runtime.runtime} {plan.runtime.precision}",
        "batch_size": plan.runtime.batch_size,
        "images": manifest["rows"],
        "distinct": manifest["distinct"],
        "errors": manifest["errors"],
        "parts": len(listed),
        "unfinished_parts": len([part for part in written if part.number not in listed]),
        "bytes": sum(path.stat().st_size for path in index.rglob("*") if path.is_file()),
        "pools": [{"path": path, "found": Path(path).is_dir()} for path in paths],
        "faiss": manifest["faiss"],
        "caches": {
            "ids": generation(index, IDS, sha256).is_dir(),
            "faiss": read_about(generation(index, FAISS, sha256)) is not None,
        },
        "versions": manifest["versions"],
    }
