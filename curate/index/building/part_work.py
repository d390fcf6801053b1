"""One process's part of a build: it takes parts whose lock is free, fills them and puts them in place."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.encoding.pipeline import Encoded, PartItems, PipelineOptions, Unreadable, encode_parts
from curate.index.building.encode_part import fill_part
from curate.index.building.part_writer import write_part
from curate.index.building.ready_part import write_ready_part
from curate.index.building.work import NumberedPart, is_done, part_lock, sweep_part
from curate.index.encoder import OpenEncoder
from curate.index.ledger import Ledger
from curate.pools import PartReader, PlannedPart, PoolItem, Problem, Roots
from transferset.errors import BusyError
from transferset.progress import Progress


@dataclass(frozen=True)
class Bench:
    """What a process writes parts with: the index, where its pools are, what must not come into it, the
    encoder, and the threads that read."""

    index: Path
    roots: Roots
    ledger: Ledger
    encoder: OpenEncoder
    workers: int | None


@dataclass(frozen=True)
class _Taken:
    number: int
    part: PlannedPart
    reader: PartReader
    held: contextlib.ExitStack


def write_parts(
    bench: Bench, work: Sequence[NumberedPart], bar: Progress, tell: Callable[[int, int, list[str]], None]
) -> None:
    """Write every part of `work` that is not done and that nobody else is writing; `tell` (number, forgotten
    images, notes) after each."""
    embeddings = [one for one in work if one.part.of_embeddings]
    if embeddings:
        _write_ready(bench, embeddings, bar, tell)
        work = [one for one in work if not one.part.of_embeddings]
    options = PipelineOptions(bench.workers, bench.encoder.plan.max_pixels)
    held: deque[_Taken] = deque()
    try:
        taken = _take(bench, work, held)
        with contextlib.closing(encode_parts(bench.encoder.model, taken, options)) as parts:
            for one, outcomes in parts:
                tell(one.number, *_write_part(bench, one, outcomes, bar))
                held.popleft().held.close()
    finally:
        for one in held:
            one.held.close()


def _write_ready(
    bench: Bench, work: Sequence[NumberedPart], bar: Progress, tell: Callable[[int, int, list[str]], None]
) -> None:
    """Parts of ready embeddings, which need no encoder."""
    for one in work:
        with contextlib.suppress(BusyError), part_lock(bench.index, one.number):
            if is_done(bench.index, one.number):
                continue
            sweep_part(bench.index, one.number)
            obeyed = (bench.roots, bench.encoder.plan)
            source = one.part.sources[0]
            made = write_ready_part(bench.index, one.number, source, obeyed, bar, bench.ledger.ids)
            tell(one.number, made.forgotten, list(made.notes))


def _take(
    bench: Bench, work: Sequence[NumberedPart], held: deque[_Taken]
) -> Iterator[PartItems[_Taken, PoolItem]]:
    """Parts as they are needed: the next one is taken while the last images of the one before are encoded."""
    for one in work:
        if is_done(bench.index, one.number):
            continue
        stack = contextlib.ExitStack()
        try:
            stack.enter_context(part_lock(bench.index, one.number))
        except BusyError:
            continue
        reader = stack.enter_context(PartReader(one.part, bench.roots))
        taken = _Taken(one.number, one.part, reader, stack)
        held.append(taken)
        if is_done(bench.index, one.number):  # by another, between our look and our lock
            held.pop().held.close()
            continue
        sweep_part(bench.index, one.number)
        yield PartItems(taken, reader.items(), reader.read)


def _write_part(
    bench: Bench, taken: _Taken, outcomes: Iterator[Encoded[PoolItem] | Unreadable[PoolItem]], bar: Progress
) -> tuple[int, list[str]]:
    plan, info = bench.encoder.plan, bench.encoder.model.info
    about: dict[str, Any] = {
        "fingerprint": plan.fingerprint,
        "encoder_fingerprint": plan.encoder.fingerprint,
        "runtime": {"runtime": info.runtime, "precision": info.precision, "version": info.version},
        "sources": [],
    }
    with write_part(bench.index, taken.number, plan.encoder.dimension, about) as writer:
        forgotten = fill_part(outcomes, writer, bar, bench.ledger.ids)
        writer.problems.extend(taken.reader.problems)
        notes = _damaged_tars(taken.reader, writer.problems)
        if not taken.part.of_files:
            pairs = zip(taken.part.sources, taken.reader.images, strict=True)
            about["sources"] = [source.to_dict(images) for source, images in pairs]
    return forgotten, notes


def _damaged_tars(reader: PartReader, problems: Sequence[Problem]) -> list[str]:
    """A sentence for each tar of a part that is damaged, cut off, or none."""
    images = dict(zip(reader.part.sources, reader.images, strict=True))
    return [
        f"{reader.roots.locate(problem.source)}: {problem.reason}"
        + (f"; the {images[problem.source]} intact images in it are kept" if images[problem.source] else "")
        for problem in problems
        if problem.kind == "source"
    ]
