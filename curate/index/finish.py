"""The end of a build: caches first, then parts.parquet and the manifest, so that readers see the old state or
the new."""

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from curate.index.encoder import library_versions
from curate.index.faiss_file import FaissAbout, build_faiss
from curate.index.ids import GENERATION_DIGITS, ItemIds, load_ids, sort_ids, write_ids
from curate.index.layout import FAISS, FORMAT_VERSION, IDS, MANIFEST
from curate.index.manifest import FinishedPart, digest, parts_table, read_manifest, write_manifest
from curate.index.numbering import Numbering
from curate.index.options import BuildReport
from curate.index.part import Part
from curate.index.plan import Plan
from curate.index.stages import Stages
from transferset.errors import DataError


def finish(
    index: Path,
    plan: Plan,
    finished: Sequence[FinishedPart],
    report: BuildReport,
    stages: Stages,
    with_faiss: bool,
) -> None:
    """Bring caches and manifest in line with the finished parts; fills in what `report` lacks."""
    table = parts_table(finished)
    sha256 = digest(table)
    parts = [part.open() for part in finished]
    with stages.timed("ids"):
        report.distinct = _bring_ids(index, parts, sha256).distinct
    about = None
    if with_faiss:
        with stages.timed("faiss"):
            about = build_faiss(index, parts, sha256, _old_state(index))
    manifest = _manifest(plan, len(finished), report, sha256, about)
    write_manifest(index, table, manifest | _old_thresholds(index))
    for cache in (IDS, FAISS):
        _keep_only(index / cache, sha256[:GENERATION_DIGITS])
    report.bytes = sum(path.stat().st_size for path in index.rglob("*") if path.is_file())


def _bring_ids(index: Path, parts: Sequence[Part], sha256: str) -> ItemIds:
    numbering = Numbering(parts)
    found = load_ids(index, sha256, numbering.total)
    if found is None:
        found = sort_ids(parts, numbering)
        write_ids(index, sha256, found)
    return found


def _old_state(index: Path) -> str | None:
    """The checksum of parts.parquet that the present manifest names: older caches go by it."""
    if not (index / MANIFEST).is_file():
        return None
    with contextlib.suppress(DataError):
        return str(read_manifest(index)[0]["parts"]["sha256"])
    return None


def _old_thresholds(index: Path) -> dict[str, Any]:
    """What `curate calibrate` has found: it is the encoder's, and stays when the pool grows."""
    if not (index / MANIFEST).is_file():
        return {}
    with contextlib.suppress(DataError):
        manifest = read_manifest(index)[0]
        return {"thresholds": manifest["thresholds"]} if "thresholds" in manifest else {}
    return {}


def _manifest(
    plan: Plan, parts: int, report: BuildReport, sha256: str, about: FaissAbout | None
) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "id_kind": plan.id_kind,
        "encoder": asdict(plan.encoder),
        "runtime": asdict(plan.runtime),
        "plan_fingerprint": plan.fingerprint,
        "rows": report.images,
        "distinct": report.distinct,
        "dimension": plan.encoder.dimension,
        "errors": report.errors,
        "parts": {"count": parts, "sha256": sha256},
        "faiss": None if about is None else {"factory": about.factory, "probes": about.probes},
        "versions": library_versions(),
    }


def _keep_only(folder: Path, name: str) -> None:
    """Remove the caches of other states. Who has one open keeps it until then."""
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name != name:
                shutil.rmtree(path, ignore_errors=True)
