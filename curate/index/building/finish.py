"""The end of a build: caches first, then parts.parquet and the manifest, so that readers see the old state or
the new."""

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from curate.index.building.stages import Stages
from curate.index.encoder import library_versions
from curate.index.ids import GENERATION_DIGITS, ItemIds, load_ids, sort_ids, write_ids
from curate.index.layout import FAISS, FORMAT_VERSION, IDS, MANIFEST, THRESHOLDS, part_directory
from curate.index.ledger import read_ledger
from curate.index.manifest import FinishedPart, digest, parts_table, write_manifest
from curate.index.numbering import Numbering
from curate.index.open_files import allow_open_files
from curate.index.options import BuildReport
from curate.index.part import Part
from curate.index.plan import Plan
from curate.index.search.faiss_choice import wish_of
from curate.index.search.faiss_file import FaissAbout, build_faiss
from curate.index.search.searcher import make_searcher
from transferset.errors import DataError
from transferset.writes import read_json, size_of


def finish(
    index: Path,
    plan: Plan,
    finished: Sequence[FinishedPart],
    report: BuildReport,
    stages: Stages,
    with_faiss: bool,
    asked: tuple[float | None, float | None] = (None, None),
) -> None:
    """Bring caches and manifest in line with the finished parts, then remove the parts that these replace;
    fills in what `report` lacks. `asked`: memory in GB and recall of the FAISS file, None for what they
    were."""
    table = parts_table(finished)
    sha256 = digest(table)
    allow_open_files(len(finished))
    parts = [part.open() for part in finished]
    with stages.timed("ids"):
        ids = _bring_ids(index, parts, sha256)
        report.distinct = ids.distinct
    about = None
    if with_faiss:
        with stages.timed("faiss"):
            searcher = make_searcher(parts, plan.encoder.dimension, ids, read_ledger(index).sorted_ids)
            about = build_faiss(index, searcher, wish_of(index, *asked), sha256, _old_state(index))
        if about is not None:
            report.faiss = about.summary()
    manifest = _manifest(plan, len(finished), report, sha256, about)
    write_manifest(index, table, manifest | _old_thresholds(index))
    for number in sorted({number for part in finished for number in part.replaces}):
        shutil.rmtree(part_directory(index, number), ignore_errors=True)
    for cache in (IDS, FAISS):
        _keep_only(index / cache, sha256[:GENERATION_DIGITS])
    report.bytes = size_of(index)


def _bring_ids(index: Path, parts: Sequence[Part], sha256: str) -> ItemIds:
    numbering = Numbering(parts)
    found = load_ids(index, sha256, numbering.total)
    if found is None:
        found = sort_ids(parts, numbering)
        write_ids(index, sha256, found)
    return found


def _old_state(index: Path) -> str | None:
    """The checksum of parts.parquet that the present manifest names, as older caches go by it. (A killed run
    may have left a parts.parquet of another state beside it.)"""
    with contextlib.suppress(DataError, KeyError, TypeError):
        return str(read_json(index / MANIFEST)["parts"]["sha256"])
    return None


def _old_thresholds(index: Path) -> dict[str, Any]:
    """What `curate calibrate` has found: it is the encoder's, and stays when the pool grows."""
    with contextlib.suppress(DataError, TypeError):
        manifest = read_json(index / MANIFEST)
        return {THRESHOLDS: manifest[THRESHOLDS]} if THRESHOLDS in manifest else {}
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
        "faiss": None if about is None else about.summary(),
        "versions": library_versions(),
    }


def _keep_only(folder: Path, name: str) -> None:
    """Remove the caches of other states. Who has one open keeps it until then."""
    if folder.is_dir():
        for path in folder.iterdir():
            if path.name != name:
                shutil.rmtree(path, ignore_errors=True)
