"""compact: forgotten items, and those that the pools no longer hold, leave the index for good."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from curate.index.building.known import Gone, Known
from curate.index.building.part_copy import Purge, copy_part
from curate.index.building.stages import Stages
from curate.index.layout import FAISS, IDS, LEDGER, MANIFEST, PARTS
from curate.index.ledger import Ledger, read_ledger
from curate.index.manifest import FinishedPart, finished_parts, refuse_other_format
from curate.index.options import BuildReport
from curate.index.plan import Plan, read_plan
from curate.index.stored_views import drop_views
from transferset.errors import DataError
from transferset.lock import DirectoryLock
from transferset.progress import progress
from transferset.writes import read_json, size_of, sweep_temporaries


@dataclass(frozen=True)
class CompactOptions:
    """Options of `compact`: `pool_roots` says where pools are now, as {old path: new path}; with `keep_gone`
    only forgotten items leave; with `dry_run` nothing does."""

    pool_roots: Mapping[str, str] = field(default_factory=dict)
    keep_gone: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class CompactReport:
    """What left the index (or would), in rows: `forgotten`, and `gone` from the pool; `parts` were written
    anew. `images` and `bytes` are what stays. `out_of_reach` are pools that could not be looked into."""

    index: Path
    forgotten: int
    gone: int
    parts: int
    images: int
    bytes: int
    out_of_reach: tuple[str, ...]
    dry_run: bool

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "index": str(self.index),
            "forgotten": self.forgotten,
            "gone": self.gone,
            "parts": self.parts,
            "images": self.images,
            "bytes": self.bytes,
            "out_of_reach": list(self.out_of_reach),
            "dry_run": self.dry_run,
        }


def compact(index: Path, options: CompactOptions | None = None) -> CompactReport:
    """Purge an index of forgotten items and of images that were removed from the pool or changed.

    Parts with such rows are written anew under new numbers; caches, parts.parquet and the manifest follow,
    and only then are the old parts removed. Killed at any moment, the index is as before or as after (or, in
    the instant between two renames, unreadable) until this is run again; the ledger hides forgotten items
    all the while.

    Raises DataError: not an index, not finished, or damaged. BusyError: another process is writing it.
    """
    options = options or CompactOptions()
    index = Path(index)
    plan, roots = read_plan(index, dict(options.pool_roots))
    if not (index / MANIFEST).is_file():
        raise DataError(
            f"{index} is not finished: it has no {MANIFEST}", hint="run the same curate build-index again"
        )
    refuse_other_format(index)
    with DirectoryLock(index):
        for folder in (index, index / PARTS, index / IDS, index / FAISS):
            if folder.is_dir():
                sweep_temporaries(folder, besides=LEDGER)
        parts = finished_parts(index)
        gone = Gone() if options.keep_gone else Known(parts).gone(roots)
        return _compact(index, plan, parts, (read_ledger(index), gone), options)


def _compact(
    index: Path,
    plan: Plan,
    parts: Sequence[FinishedPart],
    leaving: tuple[Ledger, Gone],
    options: CompactOptions,
) -> CompactReport:
    purges = {part.number: _purge(part, *leaving) for part in parts}
    dirty = [part for part in parts if purges[part.number]]
    live = list(parts)
    if not options.dry_run:
        following = 1 + max((part.number for part in parts), default=-1)
        with progress("compact", len(dirty), "parts") as bar:
            for number, part in enumerate(dirty, following):
                live[live.index(part)] = copy_part(index, number, part, purges[part.number])
                bar.advance()
        _finish(index, plan, sorted(live, key=lambda part: part.number))
        drop_views(index, leaving[0].ids)
    return CompactReport(
        index,
        forgotten=sum(int(purge.forgotten.sum()) for purge in purges.values()),
        gone=sum(int((purge.gone & ~purge.forgotten).sum()) for purge in purges.values()),
        parts=len(dirty),
        images=sum(int(purge.kept.sum()) for purge in purges.values()),
        bytes=size_of(index),
        out_of_reach=tuple(leaving[1].out_of_reach),
        dry_run=options.dry_run,
    )


def _purge(part: FinishedPart, ledger: Ledger, gone: Gone) -> Purge:
    opened = part.open()
    lost = frozenset(gone.sources.get(part.number, set()))
    mask = np.zeros(part.rows, bool)
    if lost:
        columns = (column.to_pylist() for column in opened.table(["root", "source", "path"]).columns)
        for row, (root, source, path) in enumerate(zip(*columns, strict=True)):
            mask[row] = (root, source if source is not None else path) in lost
    return Purge(ledger.among(opened.item_ids()), mask, lost)


def _finish(index: Path, plan: Plan, parts: Sequence[FinishedPart]) -> None:
    from curate.index.building.finish import finish

    errors: Counter[str] = Counter()
    for part in parts:
        errors.update(part.done["errors"])
    images = sum(part.rows for part in parts)
    report = BuildReport(index, plan.encoder.spec, "", images=images, errors=dict(sorted(errors.items())))
    manifest = read_json(index / MANIFEST)
    with_faiss = isinstance(manifest, dict) and manifest.get("faiss") is not None
    finish(index, plan, parts, report, Stages(), with_faiss)
