"""manifest.json: what a transfer set is, what it was made of, and its files' checksums. Written last."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.encoding.views import COPY_VIEWS
from curate.selection.guard import EXACT, NEAR, ExcludedSet
from curate.selection.queries import QuerySet
from curate.selection.select_options import SelectOptions
from curate.selection.selection import Selection
from curate.selection.thresholds import Calibration
from transferset import __version__
from transferset.alignment import SAME_PICTURE
from transferset.errors import DataError
from transferset.writes import read_json, sha256_file

if TYPE_CHECKING:
    from curate.index.index import Index

FORMAT_VERSION = 1
KIND = "transfer set"
MANIFEST = "manifest.json"
SHARDS = "shards"
TABLES = ("samples.parquet", "queries.parquet", "removed.parquet")
REPORT = "report.html"
PLOTS = "plots"


@dataclass(frozen=True)
class ShardRecord:
    """A finished shard: file name, samples, size in bytes and SHA-256; `holds` is `Shard.digest` of what was
    written to it (empty in older sets)."""

    name: str
    samples: int
    bytes: int
    sha256: str
    holds: str = ""


def describe_arguments(
    index: "Index",
    query_set: QuerySet,
    excluded: ExcludedSet | None,
    options: SelectOptions,
    shard_size: int,
    near: Calibration | None = None,
) -> dict[str, Any]:
    """Everything that the bytes of a transfer set depend on, as JSON; contents, not places. `near` is the
    calibration of the near checks; None: there were none."""
    queries = [[query.query_id, query.label, query.name] for query in query_set.queries]
    return {
        "index": {
            "encoder": index.encoder_spec,
            "plan": index.plan.fingerprint,
            "parts": index.manifest["parts"]["sha256"],
            "forgotten": index.forgotten.digest,
        },
        "queries": {
            "count": len(queries),
            "sha256": hashlib.sha256(json.dumps(queries).encode()).hexdigest(),
        },
        "excluded": None if excluded is None else {"images": len(excluded.images), "sha256": excluded.digest},
        "near": None if near is None else near.to_dict(),
        "selection": options.describe(),
        "shard_size": shard_size,
    }


def describe_guard(
    excluded: ExcludedSet | None, near: Calibration | None, has_bytes: bool = True
) -> dict[str, Any]:
    """What was compared with what, and what was not: for manifest, report and `--json`. Of a pool without
    bytes nothing can be compared before they are fetched."""
    checked = [*EXACT, *(NEAR if near is not None else ())] if excluded is not None and has_bytes else []
    images = 0 if excluded is None else len(excluded.images) - len(excluded.unreadable)
    return {
        "statement": guard_statement(excluded, near, has_bytes),
        "checked": checked,
        "not_checked": [one for one in (*EXACT, *NEAR) if one not in checked],
        "near_duplicates_checked": near is not None,
        "thresholds": None if near is None else near.to_dict(),
        "pixel_agreement": None if near is None else SAME_PICTURE,
        "views": 0 if near is None else COPY_VIEWS * images,
        "folders": [] if excluded is None else list(excluded.folders),
        "images": 0 if excluded is None else len(excluded.images),
        "unreadable": 0 if excluded is None else len(excluded.unreadable),
    }


def guard_statement(excluded: ExcludedSet | None, near: Calibration | None, has_bytes: bool = True) -> str:
    """What was checked against leakage, and what was not, as one sentence."""
    if not has_bytes:
        against = "the queries and val or test images"
        if excluded is not None:
            against = f"the queries and {len(excluded.images)} images of {', '.join(excluded.folders)}"
        return (
            f"not checked yet: the index has no bytes to compare with {against}; "
            "curate fetch checks the bytes that it downloads"
        )
    if excluded is None:
        return "not checked: no --exclude-dir with val or test images was given"
    checked = (*EXACT, *NEAR) if near is not None else EXACT
    statement = (
        f"compared with {len(excluded.images)} images of {', '.join(excluded.folders)} for "
        f"{', '.join(checked[:-1])} and {checked[-1]}"
    )
    if near is None:
        statement += f"; not for {'; '.join(NEAR)}"
    if excluded.unreadable:
        statement += (
            f"; {len(excluded.unreadable)} of them can't be decoded and were compared by their bytes only"
        )
    return statement


def describe_outcome(query_set: QuerySet, selection: Selection, written_queries: int) -> dict[str, Any]:
    """The numbers of a selection, for manifest, report and `--json`."""
    closing = selection.closing_summary
    labels = query_set.labels
    retrieved = Counter(labels[pick.query] for pick in selection.picks if pick.query is not None)
    drawn = bool(selection.picks) and selection.picks[0].query is None
    quotas: Counter[str | None] = Counter()
    for label, quota in zip(labels, selection.quotas, strict=True):
        quotas[label] += quota
    queries = Counter(labels)
    per_class = [
        {
            "label": label,
            "queries": queries[label],
            "quota": quotas[label],
            "retrieved": retrieved[label],
            "missing": None if drawn else max(0, quotas[label] - retrieved[label]),
        }
        for label in query_set.classes
    ]
    return {
        "queries": len(query_set.queries),
        "requested": selection.requested,
        "retrieved": len(selection.picks),
        "missing": selection.missing,
        "written_queries": written_queries,
        "samples": len(selection.picks) + written_queries,
        "queries_short_of_their_quota": _short(selection),
        "queries_closed_by_the_floor": len(selection.floored),
        "filtered": selection.filtered,
        "closing_similarity": None
        if closing is None
        else {"min": round(closing[0], 4), "median": round(closing[1], 4)},
        "removed": selection.removed_counts(),
        "classes": per_class,
    }


def _short(selection: Selection) -> int:
    if selection.picks and selection.picks[0].query is None:
        return 0
    return sum(filled < quota for filled, quota in zip(selection.filled, selection.quotas, strict=True))


def build_manifest(
    out: Path,
    arguments: dict[str, Any],
    query_set: QuerySet,
    excluded: ExcludedSet | None,
    selection: Selection,
    shards: Sequence[ShardRecord],
    measures: dict[str, Any],
    plots: Sequence[str],
    near: Calibration | None,
    id_kind: str = "bytes",
) -> dict[str, Any]:
    """The manifest of a transfer set whose other files are all written; `plots` are names below `out`. Where
    item ids are not of bytes there are no shards before `curate fetch` has been here."""
    has_bytes = id_kind == "bytes"
    written_queries = sum(shard.samples for shard in shards) - len(selection.picks) if has_bytes else 0
    return {
        "format_version": FORMAT_VERSION,
        "kind": KIND,
        "id_kind": id_kind,
        "bytes": "written" if has_bytes else "to fetch",
        "transferset_version": __version__,
        "arguments": arguments,
        "outcome": describe_outcome(query_set, selection, written_queries),
        "search": selection.search,
        "measures": measures,
        "guard": describe_guard(excluded, near, has_bytes),
        "query_errors": [asdict(error) for error in query_set.errors],
        "query_repeats": list(query_set.repeats),
        "notes": list(query_set.notes),
        "shards": [asdict(shard) for shard in shards],
        "files": {name: sha256_file(out / name) for name in (*TABLES, REPORT, *plots)},
    }


def read_manifest(out: Path, kind: str = KIND) -> dict[str, Any]:
    """The manifest of the transfer set (or what `kind` is) in `out`; DataError if it is damaged,
    no such thing, or too new."""
    path = out / MANIFEST
    manifest = read_json(path)
    if not isinstance(manifest, dict) or manifest.get("kind") != kind:
        raise DataError(f"{path} is not the manifest of a {kind}", hint="give another --out")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise DataError(
            f"{path}: format_version {manifest.get('format_version')}, this program reads {FORMAT_VERSION}",
            hint="use the version of transferset that wrote it, or give another --out",
        )
    return manifest


def damaged_files(out: Path, manifest: dict[str, Any]) -> list[str]:
    """The files of a finished transfer set that are missing or don't have their checksum, by name below
    `out`."""
    expected = {
        f"{SHARDS}/{shard['name']}": shard["sha256"] for shard in manifest.get("shards", ())
    } | manifest["files"]
    return [name for name, checksum in expected.items() if not _has_checksum(out / name, checksum)]


def _has_checksum(path: Path, checksum: str) -> bool:
    return path.is_file() and sha256_file(path) == checksum
