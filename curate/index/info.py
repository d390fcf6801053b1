"""What an index is, without opening its rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.index.ids import generation, load_ids
from curate.index.layout import ERRORS, FAISS, IDS, THRESHOLDS, VIEWS_CACHE
from curate.index.ledger import read_ledger
from curate.index.manifest import FinishedPart, finished_parts, read_manifest
from curate.index.plan import read_plan
from curate.index.search.faiss_file import read_about
from curate.pools import Roots
from curate.pools.remote import is_remote
from transferset.errors import DataError
from transferset.writes import size_of


def info(index: Path) -> dict[str, Any]:
    """Describe the index at `index`, as JSON types.

    `pools` says for each root where it is and whether it can be found; `caches` which caches fit the present
    parts; `views_bytes` is the size of the stored views of excluded images; `unfinished_parts` counts parts
    that a build has written and not yet entered (run it again); `damaged_tars` are tars that were cut off or
    damaged when they were indexed: what was whole has rows.

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
        "id_kind": plan.id_kind,
        "encoder": plan.encoder.spec,
        "encoder_fingerprint": plan.encoder.fingerprint,
        "image_size": plan.encoder.preprocessing["size"],
        "dimension": plan.encoder.dimension,
        "runtime": f"{plan.runtime.runtime} {plan.runtime.precision}",
        "batch_size": plan.runtime.batch_size,
        "images": manifest["rows"],
        "distinct": manifest["distinct"],
        "errors": manifest["errors"],
        "damaged_tars": _damaged_tars(written, roots),
        "parts": len(listed),
        "unfinished_parts": len([part for part in written if part.number not in listed]),
        "bytes": size_of(index),
        "pools": [{"path": path, "found": _is_found(path)} for path in paths],
        "forgotten": _forgotten(index, sha256, int(manifest["rows"])),
        "faiss": manifest["faiss"],
        "thresholds": manifest.get(THRESHOLDS),
        "caches": {
            "ids": generation(index, IDS, sha256).is_dir(),
            "faiss": read_about(generation(index, FAISS, sha256)) is not None,
        },
        "views_bytes": size_of(index / VIEWS_CACHE),
        "versions": manifest["versions"],
    }


def _is_found(path: str) -> bool | None:
    """Whether a pool is there; None for one on another machine, which is not asked."""
    return None if is_remote(path) else Path(path).is_dir()


def _forgotten(index: Path, sha256: str, rows: int) -> dict[str, int]:
    """Items in the ledger, and those of them whose rows `compact` has not purged yet."""
    ledger = read_ledger(index)
    ids = load_ids(index, sha256, rows)
    present = None if ids is None else sum(bool(ids.find(one)) for one in ledger.ids)
    return {"items": len(ledger.ids)} | ({} if present is None else {"not_purged": present})


def _damaged_tars(parts: Sequence[FinishedPart], roots: Roots) -> list[dict[str, str]]:
    """Path and reason of each; they stand in the error tables of the parts that hold tars."""
    found = []
    for part in parts:
        if not part.done["sources"]:
            continue
        path = part.directory / ERRORS
        try:
            rows = pq.read_table(path, filters=[("kind", "=", "source")]).to_pylist()
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"{path} is damaged: {error}", "restore the index from a copy") from error
        found += [
            {"path": str(roots.join(row["root"], row["source"])), "reason": row["reason"]} for row in rows
        ]
    return found
