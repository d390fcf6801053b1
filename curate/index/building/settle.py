"""The beginning of a build: the plan to obey, what is new in the pools, and the numbered parts that it
makes."""

import itertools
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from curate.index.building.id_kinds import notes_on_encoder, require_dimension, require_kind
from curate.index.building.known import Changes, Known, follow_moved
from curate.index.building.stages import Stages
from curate.index.building.work import (
    NumberedPart,
    Share,
    continue_work,
    read_work,
    sweep_part_locks,
    write_work,
)
from curate.index.layout import FAISS, IDS, LEDGER, PARTS, PLAN
from curate.index.ledger import Ledger, read_ledger
from curate.index.manifest import FinishedPart, finished_parts, refuse_other_format
from curate.index.options import BuildOptions
from curate.index.plan import Asked, Plan, read_plan, refuse, write_plan
from curate.pools import PoolListing, Roots, count_images, list_pools, plan_parts
from transferset.cores import available_cores
from transferset.errors import DataError
from transferset.writes import sweep_temporaries

if TYPE_CHECKING:
    from curate.index.encoder import OpenEncoder


@dataclass(frozen=True)
class Run:
    """What one call works on, and what it has to tell in the end."""

    index: Path
    pools: list[Path | str]
    options: BuildOptions
    stages: Stages = field(default_factory=Stages)
    notes: list[str] = field(default_factory=list)
    share: Share = field(default_factory=Share)

    @cached_property
    def ledger(self) -> Ledger:
        """What must not come into the index again."""
        return read_ledger(self.index)

    @property
    def devices(self) -> list[str]:
        """One for each process."""
        return [name.strip() for name in self.options.device.split(",")]

    @property
    def threads(self) -> int | None:
        """CPU threads of the encoder, as asked for; several processes on the CPU share the cores."""
        if self.options.threads is not None or len(self.devices) == 1:
            return self.options.threads
        return max(1, available_cores() // len(self.devices))

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
            options.precision,
        )


@dataclass(frozen=True)
class Begun:
    """A build whose work is known. `before` is what was finished; `encoder` is None if nothing is to be
    embedded, or it is not loaded yet."""

    plan: Plan
    roots: Roots
    before: list[FinishedPart]
    work: list[NumberedPart]
    listing: PoolListing
    changes: Changes
    encoder: "OpenEncoder | None"


def begin_build(run: Run, alone: bool) -> Begun:
    """Settle the plan and the work, and write both down."""
    plan, roots = _swept(run, alone)
    finished = finished_parts(run.index)
    with run.stages.timed("look"):
        listing, changes = look(run, roots, finished)
        require_kind(run.index, plan, listing)
        run.notes.extend(notes_on_encoder(plan, listing, run.options.encoder))
        before = read_work(run.index)
        kept, rest, number = continue_work(before, changes.new, [one.number for one in finished], alone)
        planned = plan_parts(rest, lambda source: count_images(roots.locate(source), source.size))
        work = [*kept, *map(NumberedPart, itertools.count(number), planned)]
    encoder = None
    if plan is None or run.asked.names_other_weights(plan) or (alone and work):
        encoder = load_encoder(run, plan, listing.id_kind)
        plan = encoder.plan
    require_dimension(plan, listing)
    _check_parts(run.index, plan, finished)
    write_plan(run.index, plan, roots)
    if work != before:
        write_work(run.index, work)
    return Begun(plan, roots, finished, work, listing, changes, encoder)


def _swept(run: Run, alone: bool) -> tuple[Plan | None, Roots]:
    """`existing_plan`, after what a stopped build left behind was swept."""
    for folder in (run.index, run.index / IDS, run.index / FAISS, *([run.index / PARTS] if alone else [])):
        if folder.is_dir():
            sweep_temporaries(folder, besides=LEDGER)
    if alone:
        sweep_part_locks(run.index)
    return existing_plan(run)


def existing_plan(run: Run) -> tuple[Plan | None, Roots]:
    """The plan to obey, and the roots, of an index that was begun before; nothing is written."""
    if not (run.index / PLAN).exists():
        return None, Roots(run.index)
    plan, roots = read_plan(run.index)
    refuse_other_format(run.index)
    refuse(run.index, run.asked.differences(plan))
    return plan, roots


def look(run: Run, roots: Roots, finished: list[FinishedPart]) -> tuple[PoolListing, Changes]:
    """What lies in the pools, and what of it is new; DataError if there is nothing."""
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


def load_encoder(run: Run, plan: Plan | None, id_kind: str = "bytes") -> "OpenEncoder":
    """The plan's encoder, or that of a new plan, on this process's device."""
    from curate.index.encoder import begin, resume

    options = replace(run.options, device=run.devices[0], threads=run.threads)
    with run.stages.timed("load encoder"):
        if plan is None:
            encoder = begin(options, id_kind)
        else:
            encoder = resume(plan, options, obey_runtime=plan.id_kind == "bytes")
    run.notes.extend(encoder.notes)
    return encoder


def _check_parts(index: Path, plan: Plan, finished: list[FinishedPart]) -> None:
    for part in finished:
        if part.done["fingerprint"] != plan.fingerprint:
            raise DataError(
                f"{part.directory} was not built with {index / PLAN}", hint="restore the index from a copy"
            )
