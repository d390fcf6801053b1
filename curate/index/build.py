"""build-index: from pools to an index. Run again, it goes on where it stopped and adds what is new."""

import contextlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.index.faiss_choice import DEFAULT_RECALL, FaissWish
from curate.index.id_kinds import notes_on_encoder, require_dimension, require_kind
from curate.index.known import Changes, Known, follow_moved
from curate.index.layout import FAISS, IDS, LEDGER, PARTS, PLAN, part_directory
from curate.index.ledger import Ledger, read_ledger
from curate.index.manifest import FinishedPart, finished_part, finished_parts, refuse_other_format
from curate.index.options import BuildOptions, BuildReport
from curate.index.part_writer import write_part
from curate.index.plan import Asked, Plan, read_plan, refuse, write_plan
from curate.index.ready_part import write_ready_part
from curate.index.stages import Stages
from curate.pools import (
    PartReader,
    PlannedPart,
    PoolListing,
    Problem,
    Roots,
    Source,
    count_images,
    list_pools,
    plan_parts,
)
from curate.pools.reader import is_guessed
from curate.pools.roots import as_pools
from transferset.console import Progress, progress
from transferset.errors import DataError, UsageError
from transferset.lock import LOCK_NAME, DirectoryLock
from transferset.writes import TEMPORARY_PREFIX, sweep_temporaries

if TYPE_CHECKING:
    from curate.index.encoder import OpenEncoder


class TooManyErrors(DataError):
    """The index is built, but more of the pool was unreadable than `--max-error-rate` allows."""

    def __init__(self, report: BuildReport, limit: float) -> None:
        super().__init__(
            f"{report.error_rate:.2%} of the images can't be read, --max-error-rate allows {limit:.2%}",
            hint=_where_errors_are(report.index),
        )
        self.report = report


def build_index(pools: Sequence[Path | str], index: Path, options: BuildOptions | None = None) -> BuildReport:
    """Embed the images of `pools` into the index at `index`.

    A part (see `plan_parts`) is written whole or not at all; the same call after a crash gives the same bytes
    as an unbroken run on the same kind of machine. Sources that no part holds form new parts. Old parts never
    change.

    Raises:
        UsageError: `index` is something else or was begun with other options (the difference is in the
            message); a pool does not exist.
        DataError: nothing in the pools, nothing readable, or `TooManyErrors`.
        BusyError: another process is building it.
    """
    options = options or BuildOptions()
    index = Path(index)
    _check_options(pools, options)
    _check_directory(index)
    fresh = not index.exists()
    try:
        with DirectoryLock(index):
            report = _build(_Run(index, as_pools(pools), options))
    finally:
        if fresh:
            with contextlib.suppress(OSError):
                index.rmdir()  # succeeds only if nothing was written
    if options.max_error_rate is not None and report.error_rate > options.max_error_rate:
        raise TooManyErrors(report, options.max_error_rate)
    return report


def _check_options(pools: Sequence[Path | str], options: BuildOptions) -> None:
    if not pools:
        raise UsageError("no pool was given", hint="--pool takes a folder, a tar or a glob")
    for name in ("batch_size", "workers", "max_pixels", "image_size", "threads"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
    if options.memory_gb is not None or options.recall is not None:
        FaissWish(options.memory_gb, DEFAULT_RECALL if options.recall is None else options.recall)
    if options.max_error_rate is not None and not 0 <= options.max_error_rate <= 1:
        raise UsageError(f"--max-error-rate must be between 0 and 1, got {options.max_error_rate}")


def _check_directory(index: Path) -> None:
    """Never write into a folder that holds something else."""
    if index.exists() and not index.is_dir():
        raise UsageError(f"--index {index} is not a folder")
    if index.is_dir() and not (index / PLAN).is_file():
        names = sorted(path.name for path in index.iterdir())
        others = [name for name in names if name != LOCK_NAME and not name.startswith(TEMPORARY_PREFIX)]
        if others:
            raise UsageError(
                f"--index {index} is not empty and is not an index: it holds {', '.join(others[:3])}",
                hint="give a new folder",
            )


@dataclass(frozen=True)
class _Run:
    """What one call works on, and what it has to tell in the end."""

    index: Path
    pools: list[Path | str]
    options: BuildOptions
    stages: Stages = field(default_factory=Stages)
    notes: list[str] = field(default_factory=list)
    forgotten: dict[int, int] = field(default_factory=dict)

    @cached_property
    def ledger(self) -> Ledger:
        """What must not come into the index again."""
        return read_ledger(self.index)

    @property
    def asked(self) -> Asked:
        options = self.options
        return Asked(
            options.encoder,
            options.image_size,
            options.runtime,
            options.batch_size,
            options.max_pixels,
            options.seed,
            options.threads,
        )


def _build(run: _Run) -> BuildReport:
    from curate.index.finish import finish

    plan, roots = _existing(run)
    finished = finished_parts(run.index)
    with run.stages.timed("look"):
        listing, changes = _look(run, roots, finished)
    require_kind(run.index, plan, listing)
    run.notes.extend(notes_on_encoder(plan, listing, run.options.encoder))
    plan, new = _encode(run, plan, roots, finished, (listing, changes))
    report = _report(run, plan, finished, new)
    report.changed, report.gone, report.skipped = changes.changed, changes.gone, listing.skipped
    report.forgotten = sum(run.forgotten.values())
    if report.images == 0 and not run.ledger.ids:
        raise DataError(
            f"nothing in the pool can be read: {_counts(report)}", hint=_where_errors_are(run.index)
        )
    asked = (run.options.memory_gb, run.options.recall)
    finish(run.index, plan, [*finished, *new], report, run.stages, run.options.faiss, asked)
    return report


def _existing(run: _Run) -> tuple[Plan | None, Roots]:
    """The plan to obey, and the roots, of an index that was begun before."""
    for folder in (run.index, run.index / PARTS, run.index / IDS, run.index / FAISS):
        if folder.is_dir():
            sweep_temporaries(folder, besides=LEDGER)
    if not (run.index / PLAN).exists():
        return None, Roots(run.index)
    plan, roots = read_plan(run.index)
    refuse_other_format(run.index)
    refuse(run.index, run.asked.differences(plan))
    return plan, roots


def _look(run: _Run, roots: Roots, finished: list[FinishedPart]) -> tuple[PoolListing, Changes]:
    known = Known(finished)
    run.notes.extend(follow_moved(roots, known, run.pools))
    listing = list_pools(run.pools, roots)
    if not listing.sources:
        left_out = "".join(f"; {path}: {reason}" for path, reason in listing.skipped[:3])
        raise DataError(
            f"no image, tar or table in {', '.join(str(pool) for pool in run.pools)}{left_out}",
            hint="a pool is a folder of JPEG, PNG and WebP files, of uncompressed tars with such files, of "
            "Parquet tables with their bytes or paths, or of ready embeddings (img_emb/ and metadata/)",
        )
    return listing, known.compare(listing.sources, roots, run.pools)


def _encode(
    run: _Run,
    plan: Plan | None,
    roots: Roots,
    finished: list[FinishedPart],
    found: tuple[PoolListing, Changes],
) -> tuple[Plan, list[FinishedPart]]:
    """Settle the plan and write the new parts. The encoder's memory is free again afterwards."""
    listing, changes = found
    encoder = _encoder(run, plan, changes, listing.id_kind)
    plan = encoder.plan if encoder is not None else plan
    assert plan is not None
    _check_parts(run.index, plan, finished)
    require_dimension(plan, listing)
    write_plan(run.index, plan, roots)
    return plan, _encode_parts(run, changes.new, roots, finished, encoder) if encoder is not None else []


def _encoder(run: _Run, plan: Plan | None, changes: Changes, id_kind: str) -> "OpenEncoder | None":
    """The encoder, loaded only if there is something to embed, or to see whether it is the same one."""
    if plan is not None and not changes.new and not run.asked.names_other_weights(plan):
        return None
    from curate.index.encoder import begin, resume

    with run.stages.timed("load encoder"):
        if plan is None:
            encoder = begin(run.options, id_kind)
        else:
            encoder = resume(plan, run.options, obey_runtime=plan.id_kind == "bytes")
    run.notes.extend(encoder.notes)
    return encoder


def _check_parts(index: Path, plan: Plan, finished: list[FinishedPart]) -> None:
    for part in finished:
        if part.done["fingerprint"] != plan.fingerprint:
            raise DataError(
                f"{part.directory} was not built with {index / PLAN}", hint="restore the index from a copy"
            )


def _encode_parts(
    run: _Run, sources: list[Source], roots: Roots, finished: list[FinishedPart], encoder: "OpenEncoder"
) -> list[FinishedPart]:
    """Write the parts that new sources make."""
    with run.stages.timed("look"):
        parts = list(plan_parts(sources, lambda source: count_images(roots.locate(source), source.size)))
    if not parts:
        return []
    before = sum(part.rows for part in finished)
    total = None if is_guessed(parts, roots) else before + sum(part.images for part in parts)
    first = 1 + max((part.number for part in finished), default=-1)
    with run.stages.timed("encode"), progress("build-index", total, "images", initial=before) as bar:
        return [
            _encode_part(run, number, part, roots, encoder, bar) for number, part in enumerate(parts, first)
        ]


def _encode_part(
    run: _Run, number: int, part: PlannedPart, roots: Roots, encoder: "OpenEncoder", bar: Progress
) -> FinishedPart:
    from curate.index.encode_part import encode_part

    if part.of_embeddings:
        made = write_ready_part(
            run.index, number, part.sources[0], (roots, encoder.plan), bar, run.ledger.ids
        )
        run.forgotten[number] = made.forgotten
        run.notes.extend(made.notes)
        return made.part
    plan, info = encoder.plan, encoder.model.info
    about: dict[str, Any] = {
        "fingerprint": plan.fingerprint,
        "encoder_fingerprint": plan.encoder.fingerprint,
        "runtime": {"runtime": info.runtime, "precision": info.precision, "version": info.version},
        "sources": [],
    }
    with (
        PartReader(part, roots) as reader,
        write_part(run.index, number, plan.encoder.dimension, about) as writer,
    ):
        run.forgotten[number] = encode_part(reader, writer, encoder, run.options.workers, bar, run.ledger.ids)
        run.notes.extend(_damaged_tars(reader, writer.problems))
        if not part.of_files:
            pairs = zip(part.sources, reader.images, strict=True)
            about["sources"] = [source.to_dict(images) for source, images in pairs]
    return finished_part(part_directory(run.index, number))


def _damaged_tars(reader: PartReader, problems: Sequence[Problem]) -> list[str]:
    """A sentence for each tar of a part that is damaged, cut off, or none."""
    images = dict(zip(reader.part.sources, reader.images, strict=True))
    return [
        f"{reader.roots.locate(problem.source)}: {problem.reason}"
        + (f"; the {images[problem.source]} whole images in it are kept" if images[problem.source] else "")
        for problem in problems
        if problem.kind == "source"
    ]


def _report(run: _Run, plan: Plan, finished: list[FinishedPart], new: list[FinishedPart]) -> BuildReport:
    errors: Counter[str] = Counter()
    for part in [*finished, *new]:
        errors.update(part.done["errors"])
    new_images = sum(part.rows for part in new)
    return BuildReport(
        run.index,
        plan.encoder.spec,
        f"{plan.runtime.runtime} {plan.runtime.precision}",
        parts=len(finished) + len(new),
        images=sum(part.rows for part in finished) + new_images,
        errors=dict(sorted(errors.items())),
        new_parts=len(new),
        new_images=new_images,
        rate=new_images / run.stages.seconds["encode"] if new else 0.0,
        seconds=run.stages.seconds,
        notes=run.notes,
    )


def _counts(report: BuildReport) -> str:
    return (
        ", ".join(f"{count} {reason}" for reason, count in report.errors.items()) or "its tars hold no images"
    )


def _where_errors_are(index: Path) -> str:
    return f"what could not be read, and why, is in {index}/parts/*/errors.parquet"
