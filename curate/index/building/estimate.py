"""build-index --dry-run: what a build would take. Nothing is written."""

import contextlib
import itertools
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from curate.encoding.pipeline import Encoded, PipelineOptions, encode_items
from curate.index.building.id_kinds import require_images, require_kind
from curate.index.building.part_writer import NewRow, write_part
from curate.index.building.settle import Run, existing_plan, load_encoder, look
from curate.index.encoder import OpenEncoder
from curate.index.manifest import finished_parts
from curate.index.options import BuildOptions
from curate.index.search.faiss_choice import choose_faiss, wish_of
from curate.pools.roots import as_pools
from curate.pools.sample import pool_size, sample_images

SAMPLE = 1_024
PROBE_SECONDS = 8.0
_ID_BYTES = 24
"""Of the cache of item ids, a row; sorting takes about four times as much."""


@dataclass(frozen=True)
class BuildEstimate:
    """What a build would do and take.

    Attributes:
        new_images: to be embedded; `counted` is False where they were estimated from the sizes of some tars.
        rows: of the whole index afterwards, unreadable images not taken off.
        encoder, runtime: what would run.
        disk_bytes: of the whole index; memory_bytes: at the peak, of one process.
        rate: images per second of the whole pipeline on a sample; seconds: for `new_images`, without the
            FAISS file.
        unreadable: share of the sample.
        faiss: factory string, bytes and the reason for it; None with BuildOptions.faiss off.
    """

    index: Path
    new_images: int
    counted: bool
    rows: int
    encoder: str
    runtime: str
    disk_bytes: int
    memory_bytes: int
    rate: float
    seconds: float
    unreadable: float
    faiss: dict[str, Any] | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {**asdict(self), "index": str(self.index)}


@dataclass(frozen=True)
class _Probe:
    rate: float
    unreadable: float
    item_bytes: float
    memory: int


def estimate_build(
    pools: Sequence[Path | str], index: Path, options: BuildOptions | None = None
) -> BuildEstimate:
    """What `build_index` with the same arguments would take on this machine: from counting the pools, and
    from running the pipeline for some seconds on a seeded sample of what is new.

    Raises what `build_index` raises before its first part.
    """
    options = replace(options or BuildOptions(), device=(options or BuildOptions()).device.split(",")[0])
    run = Run(Path(index), as_pools(pools), options)
    plan, roots = existing_plan(run)
    finished = finished_parts(run.index)
    listing, changes = look(run, roots, finished)
    require_images(listing)
    require_kind(run.index, plan, listing)
    size = pool_size(changes.new, roots, options.seed or 0)
    encoder = load_encoder(run, plan)
    plan = encoder.plan
    probe = _Probe(0.0, 0.0, 0.0, _peak_memory())
    if changes.new:
        with sample_images(changes.new, roots, SAMPLE, options.seed or 0) as sample:
            probe = _run_probe(encoder, sample, options)
    rows = size.images + sum(part.rows for part in finished)
    before = sum(path.stat().st_size for path in run.index.glob("parts/*/*"))
    row_bytes = 2 * plan.encoder.dimension + probe.item_bytes
    choice = (
        choose_faiss(rows, plan.encoder.dimension, wish_of(run.index, options.memory_gb, options.recall))
        if options.faiss
        else None
    )
    faiss_bytes = choice.bytes if choice is not None else 0
    return BuildEstimate(
        index=run.index,
        new_images=size.images,
        counted=size.counted,
        rows=rows,
        encoder=plan.encoder.spec,
        runtime=f"{plan.runtime.runtime} {plan.runtime.precision}",
        disk_bytes=round(before + size.images * row_bytes + rows * _ID_BYTES + faiss_bytes),
        memory_bytes=round(max(probe.memory, probe.memory / 2 + 4 * _ID_BYTES * rows + faiss_bytes)),
        rate=probe.rate,
        seconds=size.images / probe.rate if changes.new else 0.0,
        unreadable=probe.unreadable,
        faiss=None if choice is None else asdict(choice),
    )


def _run_probe(encoder: OpenEncoder, sample: Sequence[Any], options: BuildOptions) -> _Probe:
    """The pipeline on the sample, again and again for some seconds; the first batch does not count."""
    pipeline = PipelineOptions(options.workers, encoder.plan.max_pixels)
    deadline = time.perf_counter() + PROBE_SECONDS
    forever = itertools.chain.from_iterable(itertools.repeat(sample))
    done = readable = 0
    begun = time.perf_counter()
    rows: list[NewRow] = []
    with contextlib.closing(
        encode_items(encoder.model, forever, lambda one: one.read(), pipeline)
    ) as outcomes:
        for outcome in outcomes:
            if done == encoder.model.batch_size:
                begun = time.perf_counter()
            done += 1
            if isinstance(outcome, Encoded):
                readable += 1
                if len(rows) < len(sample):
                    row = outcome.embedding.astype(np.float16)
                    new = NewRow(
                        outcome.item.item, outcome.item_id, outcome.header, outcome.perceptual_hash, row
                    )
                    rows.append(new)
            if done >= 2 * encoder.model.batch_size and time.perf_counter() > deadline:
                break
    rate = (done - encoder.model.batch_size) / (time.perf_counter() - begun)
    return _Probe(rate, 1 - readable / done, _item_bytes(rows), _peak_memory())


def _item_bytes(rows: Sequence[NewRow]) -> float:
    """Bytes on disk of a row besides its embedding, as the real writer writes it."""
    if not rows:
        return 0.0
    dimension = len(rows[0].embedding)
    with tempfile.TemporaryDirectory() as folder:
        with write_part(Path(folder), 0, dimension, {}) as writer:
            for row in rows:
                writer.add(row)
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return max(0.0, size / len(rows) - 2 * dimension)


def _peak_memory() -> int:
    """The largest resident memory of this process so far, bytes."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0
