"""`curate retrieve`: from an index and a few labelled images to a transfer set."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from curate.encoding.pipeline import PipelineOptions, Unreadable, available_cores, encode_items
from curate.index.encoder import resume
from curate.index.engine import EngineChoice, choose_engine, recall_on
from curate.index.index import Index, open_index
from curate.index.options import BuildOptions
from curate.selection.candidates import OVERFETCH
from curate.selection.guard import ExcludedSet, LeakageGuard, load_excluded
from curate.selection.queries import Query, QuerySet, load_queries
from curate.selection.quotas import plan_quotas
from curate.selection.selection import Selection, SelectOptions, select
from curate.transfer_set.manifest import (
    MANIFEST,
    REPORT,
    damaged_files,
    describe_arguments,
    guard_statement,
    read_manifest,
)
from curate.transfer_set.plan import StoredPlan, require_apart, require_folder_for
from curate.transfer_set.writing import Retrieved, write_transfer_set
from transferset.console import say
from transferset.errors import DataError, UsageError
from transferset.images import MAX_PIXELS
from transferset.lock import DirectoryLock
from transferset.models.preprocessing import Preprocessing
from transferset.models.runtime import FrozenModel

DEFAULT_SHARD_SIZE = 1_000
_RECALL_DEPTH = 100


@dataclass(frozen=True)
class RetrieveOptions:
    """Options of `retrieve`.

    Attributes:
        selection: how many images and which strategy.
        exclude_dirs: folders (val, test) whose images must not be retrieved.
        shard_size: samples a shard, 1 to 100,000; shards end before 1 GiB in any case.
        pool_roots: where pools are now, as {old path: new path}.
        max_pixels: larger query images are unreadable.
        max_error_rate: share of unreadable query images above which nothing is retrieved (None: no limit).
        workers: threads that read and decode (None: one a core). device: auto, cpu, cuda, …
    """

    selection: SelectOptions
    exclude_dirs: tuple[Path, ...] = ()
    shard_size: int = DEFAULT_SHARD_SIZE
    pool_roots: Mapping[str, str] = field(default_factory=dict)
    max_pixels: int = MAX_PIXELS
    max_error_rate: float | None = None
    workers: int | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        if not 1 <= self.shard_size <= 100_000:
            raise UsageError(f"--shard-size must be from 1 to 100,000, got {self.shard_size}")
        if self.max_error_rate is not None and not 0 <= self.max_error_rate <= 1:
            raise UsageError(f"--max-error-rate is a share, from 0 to 1, got {self.max_error_rate}")
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"--workers must be at least 1, got {self.workers}")

    @property
    def threads(self) -> int:
        """Threads that read and decode."""
        return self.workers or available_cores()


@dataclass(frozen=True)
class RetrieveReport:
    """The transfer set in `out`: its manifest, and whether it was there before this run."""

    out: Path
    manifest: dict[str, Any]
    already_complete: bool

    @property
    def is_fetched(self) -> bool:
        """Whether the images are in it; else `curate fetch` has to get them."""
        return self.manifest.get("bytes", "written") == "written"

    @property
    def outcome(self) -> dict[str, Any]:
        """The numbers: requested, retrieved, missing, closing similarities, by class."""
        return dict(self.manifest["outcome"])

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, for `--json`."""
        return {
            **self.outcome,
            "out": str(self.out),
            "manifest": str(self.out / MANIFEST),
            "report": str(self.out / REPORT),
            "already_complete": self.already_complete,
            "id_kind": self.manifest.get("id_kind", "bytes"),
            "bytes": self.manifest.get("bytes", "written"),
            "guard": self.manifest["guard"],
            "query_errors": self.manifest["query_errors"],
            "notes": self.manifest["notes"],
            "shards": len(self.manifest["shards"]),
        }


def retrieve(index: Path | Index, query_dir: Path, out: Path, options: RetrieveOptions) -> RetrieveReport:
    """Retrieve images for the queries in `query_dir` and write them to `out` as a transfer set.

    The same command finishes what a stopped one began, and finds a finished set complete. Progress and
    remarks go to stderr.

    Raises: UsageError: amounts that don't fit the queries; `out` was written with other arguments or holds
    something else; the index's encoder is not the one that can be loaded now. DataError: no index, no
    readable query (of a class), nothing to retrieve, the pool's bytes can't be read. BusyError: another
    process is writing `out`.
    """
    out = Path(out)
    opened = index if isinstance(index, Index) else open_index(index, options.pool_roots)
    if options.selection.include_queries and not opened.has_bytes:
        raise UsageError(
            "--include-queries: an index of ready embeddings gives a set without images, which queries "
            "can't be written into",
            hint="leave it out; distill takes labelled images with --data",
        )
    read = [("--index", opened.path), ("--query-dir", Path(query_dir))]
    require_apart(out, [*read, *(("--exclude-dir", folder) for folder in options.exclude_dirs)])
    query_set = _load_queries(Path(query_dir), options)
    excluded = None
    if options.exclude_dirs:
        excluded = load_excluded(options.exclude_dirs, options.max_pixels, options.threads)
    quotas = quotas_of(len(query_set.queries), options.selection)
    options, engine = _with_engine(opened, quotas, options)
    arguments = describe_arguments(opened, query_set, excluded, options.selection, options.shard_size)
    require_folder_for(out, arguments)
    with _writing(out):
        if require_folder_for(out, arguments) and (manifest := _finished(out)) is not None:
            return RetrieveReport(out, manifest, already_complete=True)
        plan = StoredPlan(out)
        selection = plan.load_selection()
        if selection is None:
            selection = _select(opened, query_set, excluded, options, engine)
            plan.begin(arguments, selection)
        else:
            say(f"{out}: going on with the selection of {len(selection.picks)} images made before")
        retrieved = Retrieved(
            opened,
            query_set,
            excluded,
            selection,
            options.selection.include_queries,
            options.selection.seed,
        )
        manifest = write_transfer_set(out, retrieved, arguments, options.shard_size, plan, options.threads)
        plan.end()
    return RetrieveReport(out, manifest, already_complete=False)


def retrieve_items(
    index: Index,
    encoder: FrozenModel | None,
    queries: Sequence[Query],
    options: SelectOptions,
    guard: LeakageGuard | None = None,
    pipeline: PipelineOptions | None = None,
) -> Selection:
    """The selection for queries in memory, which the command line and the HTTP service share.

    Args:
        encoder: the index's encoder; None if every query has its vector, or for strategy "random".
        queries: distinct by id; labels may be None.

    Raises:
        UsageError: amounts that don't fit the number of queries.
        DataError: an unreadable query, or nothing to retrieve.
        NumericError: an embedding that is not finite.
    """
    if options.strategy == "random":
        vectors = np.empty((len(queries), index.dimension), dtype=np.float32)
    else:
        vectors = encode_queries(index, encoder, queries, pipeline)
    quotas = quotas_of(len(queries), options)
    identities = [query.query_id for query in queries]
    labels = [query.label for query in queries]
    return select(index, vectors, identities, labels, quotas, options, guard)


def encode_queries(
    index: Index,
    encoder: FrozenModel | None,
    queries: Sequence[Query],
    pipeline: PipelineOptions | None = None,
) -> np.ndarray:
    """The queries' embeddings (q, d) float32, L2-normalised; ready vectors are taken as they are."""
    vectors = np.empty((len(queries), index.dimension), dtype=np.float32)
    images = []
    for place, query in enumerate(queries):
        if query.vector is None:
            images.append((place, query))
        else:
            vectors[place] = query.vector
    if images:
        if encoder is None:
            raise ValueError("queries without a vector need an encoder")
        for outcome in encode_items(encoder, images, lambda one: one[1].read(), pipeline):
            place, query = outcome.item
            if isinstance(outcome, Unreadable):
                raise DataError(f"query {query.name} cannot be read: {outcome.reason}")
            vectors[place] = outcome.embedding
    return vectors


def quotas_of(n_queries: int, options: SelectOptions) -> list[int]:
    """The quota of each query under these options."""
    return plan_quotas(
        n_queries,
        total=options.total,
        per_query=options.per_query,
        include_queries=options.include_queries,
        seed=options.seed,
    )


def _load_queries(query_dir: Path, options: RetrieveOptions) -> QuerySet:
    query_set = load_queries(query_dir, options.max_pixels, options.threads)
    for note in query_set.notes:
        say(f"note: {note}")
    for error in query_set.errors[:10]:
        say(f"unreadable query: {error.name}: {error.reason}")
    counts = [f"{len(query_set.queries)} queries", f"{len(query_set.classes)} classes"]
    if query_set.errors:
        counts.append(f"{len(query_set.errors)} unreadable")
    if query_set.repeats:
        counts.append(f"{len(query_set.repeats)} repeats of the same bytes")
    say(", ".join(counts))
    rate = len(query_set.errors) / (len(query_set.errors) + len(query_set.repeats) + len(query_set.queries))
    if options.max_error_rate is not None and rate > options.max_error_rate:
        raise DataError(
            f"{len(query_set.errors)} query images are unreadable, a share of {rate:.3f}; "
            f"--max-error-rate is {options.max_error_rate}"
        )
    return query_set


def _select(
    index: Index,
    query_set: QuerySet,
    excluded: ExcludedSet | None,
    options: RetrieveOptions,
    engine: EngineChoice,
) -> Selection:
    """Load the encoder if it is needed, search, and say how it went."""
    model = None
    if options.selection.strategy != "random":
        encoder = resume(index.plan, BuildOptions(device=options.device), obey_runtime=False)
        for note in encoder.notes:
            say(f"note: {note}")
        model = encoder.model
        say(f"searching {'exactly' if engine.engine == 'exact' else 'by the FAISS file'}: {engine.reason}")
    guard = None
    if excluded is not None and index.has_bytes:
        short_side = Preprocessing.from_dict(index.plan.encoder.preprocessing).resize_short_side
        guard = LeakageGuard(excluded, index, short_side, options.max_pixels)
    pipeline = PipelineOptions(options.threads, options.max_pixels)
    queries: Sequence[Query] = query_set.queries
    search: dict[str, Any] = {"engine": engine.engine, "reason": engine.reason}
    if engine.engine == "faiss" and model is not None:
        vectors = encode_queries(index, model, queries, pipeline)
        queries = [replace(query, vector=vector) for query, vector in zip(queries, vectors, strict=True)]
        search |= recall_on(index, vectors, _RECALL_DEPTH, options.selection.seed)
        say(
            f"recall@{search['depth']} on {search['queries']} of the queries against exact search: "
            f"{search['recall']:.3f} (on rows of the pool: {index.manifest['faiss']['recall']})"
        )
    selection = retrieve_items(index, model, queries, options.selection, guard, pipeline)
    _tell(selection, excluded, index.has_bytes)
    return selection if options.selection.strategy == "random" else replace(selection, search=search)


def _with_engine(
    index: Index, quotas: Sequence[int], options: RetrieveOptions
) -> tuple[RetrieveOptions, EngineChoice]:
    """The options with the engine that is taken, and why."""
    depth = OVERFETCH * max(quotas, default=1)
    choice = choose_engine(index, len(quotas), depth, options.selection.engine)
    return replace(options, selection=replace(options.selection, engine=choice.engine)), choice


def _tell(selection: Selection, excluded: ExcludedSet | None, has_bytes: bool) -> None:
    say(f"selected {len(selection.picks)} of {selection.requested} images")
    closing = selection.closing_summary
    if closing is not None:
        say(f"queries closed at similarity {closing[0]:.3f} (least), {closing[1]:.3f} (median)")
    if has_bytes:
        removed = selection.removed_counts()
        say(
            f"kept out: {removed['query']} that are queries, {removed['exact bytes']} with the bytes of an "
            f"excluded image, {removed['same pixels']} with its pixels"
        )
    if selection.missing:
        why = f"; the similarity floor closed {len(selection.floored)} queries" if selection.floored else ""
        say(f"shortfall: {selection.missing} images are missing{why}")
    say(f"leakage: {guard_statement(excluded, has_bytes)}")


def _finished(out: Path) -> dict[str, Any] | None:
    """The manifest if everything it lists is whole; else None, and the damage is told."""
    manifest = read_manifest(out)
    damaged = damaged_files(out, manifest)
    if damaged:
        say(f"{out}: {', '.join(damaged[:5])} missing or damaged; writing again what is")
        return None
    StoredPlan(out).end()
    say(f"{out} is already complete")
    return manifest


@contextlib.contextmanager
def _writing(out: Path) -> Iterator[None]:
    """The folder's lock; a folder that was made for it and stayed empty goes again."""
    made = not out.exists()
    try:
        with DirectoryLock(out):
            yield
    except BaseException:
        if made:
            with contextlib.suppress(OSError):
                out.rmdir()
        raise
