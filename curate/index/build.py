"""build-index: from pools to an index. Run again, it resumes where it stopped and adds what is new."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from curate.index.building.settle import Begun, Run, begin_build, load_encoder
from curate.index.building.work import NumberedPart, is_done, read_work, write_work
from curate.index.layout import PLAN, WORK_LOCK
from curate.index.manifest import FinishedPart, finished_parts
from curate.index.options import BuildOptions, BuildReport
from curate.index.plan import read_plan
from curate.index.search.faiss_choice import DEFAULT_RECALL, FaissWish
from curate.pools import Roots
from curate.pools.roots import as_pools
from curate.pools.tar_images import is_guessed
from transferset.console import say
from transferset.cores import available_cores
from transferset.errors import BusyError, DataError, UsageError
from transferset.lock import LOCK_NAME, DirectoryLock
from transferset.progress import progress
from transferset.writes import TEMPORARY_PREFIX


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
    change. Several devices, and several calls at once for one index, share the parts: each comes back when
    the whole index is there.

    Raises:
        UsageError: `index` is something else or was begun with other options (the difference is in the
            message); a pool does not exist.
        DataError: nothing in the pools, nothing readable, or `TooManyErrors`.
        BusyError: another process is compacting it.
    """
    options = options or BuildOptions()
    index = Path(index)
    _check_options(pools, options)
    _check_directory(index)
    fresh = not index.exists()
    try:
        report = _build(Run(index, as_pools(pools), options))
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
    if len(options.device.split(",")) > 1:
        from transferset.models.runtime import resolve_device

        for device in options.device.split(","):
            resolve_device(device.strip())
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
        others = [name for name in names if not name.startswith((LOCK_NAME, TEMPORARY_PREFIX))]
        if others:
            raise UsageError(
                f"--index {index} is not empty and is not an index: it holds {', '.join(others[:3])}",
                hint="give a new folder",
            )


def _build(run: Run) -> BuildReport:
    with contextlib.ExitStack() as held:
        with _turn(run.index):
            shared = held.enter_context(DirectoryLock(run.index, shared=True))
            build = begin_build(run, shared.alone)
        while True:
            _write_parts(run, build)
            build = replace(build, encoder=None)  # the index may need its memory
            with _turn(run.index):
                added = _added(run.index)
                if added is None:
                    return _finish(run, build)
            build = replace(build, work=added[0], roots=added[1])


@contextlib.contextmanager
def _turn(index: Path) -> Iterator[None]:
    """Only one of those that build an index looks for work, or finishes, at a time."""
    lock = DirectoryLock(index, WORK_LOCK)
    try:
        lock.__enter__()
    except BusyError as error:
        say(f"{error.message} too: waiting until it has planned or ended")
        lock = DirectoryLock(index, WORK_LOCK, wait=True)
        lock.__enter__()
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def _write_parts(run: Run, build: Begun) -> None:
    """Write the parts of the work, with others who do the same. The encoder's memory is free again
    afterwards."""
    left = [one for one in build.work if not is_done(run.index, one.number)]
    if not left:
        return
    from curate.index.building.crew import write_all
    from curate.index.building.part_work import Bench

    encoder = build.encoder or load_encoder(run, build.plan)
    workers = run.options.workers or max(1, available_cores() // len(run.devices))
    bench = Bench(run.index, build.roots, run.ledger, encoder, workers)
    before = sum(part.rows for part in build.before)
    done = sum(one.part.images for one in build.work if one not in left)
    guessed = is_guessed((one.part for one in build.work), build.roots)
    total = None if guessed else before + sum(one.part.images for one in build.work)
    with run.stages.timed("encode"), progress("build-index", total, "images", initial=before + done) as bar:
        write_all(bench, left, run.devices[1:], bar, run.share)


def _added(index: Path) -> tuple[list[NumberedPart], Roots] | None:
    """Work that others have added in the meantime, with the roots that it needs; None if all is done."""
    work = read_work(index)
    if all(is_done(index, one.number) for one in work):
        return None
    return work, read_plan(index)[1]


def _finish(run: Run, build: Begun) -> BuildReport:
    """Caches and manifest; quick where another process has just done the same."""
    from curate.index.building.finish import finish

    write_work(run.index, [])
    finished = finished_parts(run.index)
    report = _report(run, build, finished)
    if report.images == 0 and not run.ledger.ids:
        raise DataError(
            f"nothing in the pool can be read: {_counts(report)}", hint=_where_errors_are(run.index)
        )
    asked = (run.options.memory_gb, run.options.recall)
    finish(run.index, build.plan, finished, report, run.stages, run.options.faiss, asked)
    return report


def _report(run: Run, build: Begun, finished: list[FinishedPart]) -> BuildReport:
    errors: Counter[str] = Counter()
    for part in finished:
        errors.update(part.done["errors"])
    new = [part for part in finished if part.number in run.share.parts]
    new_images = sum(part.rows for part in new)
    return BuildReport(
        run.index,
        build.plan.encoder.spec,
        f"{build.plan.runtime.runtime} {build.plan.runtime.precision}",
        parts=len(finished),
        images=sum(part.rows for part in finished),
        errors=dict(sorted(errors.items())),
        new_parts=len(new),
        new_images=new_images,
        forgotten=run.share.forgotten,
        rate=new_images / run.stages.seconds["encode"] if new else 0.0,
        seconds=run.stages.seconds,
        changed=build.changes.changed,
        gone=build.changes.gone,
        skipped=build.listing.skipped,
        notes=[*run.notes, *run.share.notes],
    )


def _counts(report: BuildReport) -> str:
    return (
        ", ".join(f"{count} {reason}" for reason, count in report.errors.items())
        or "its tars and tables hold no images, or are damaged"
    )


def _where_errors_are(index: Path) -> str:
    return f"what could not be read, and why, is in {index}/parts/*/errors.parquet"
