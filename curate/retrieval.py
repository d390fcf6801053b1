"""`curate retrieve`: from an index and a few labelled images to a transfer set."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from curate.copies.checks import find_calibration, make_checks
from curate.encoding.crops import CROPS
from curate.encoding.pipeline import PipelineOptions
from curate.index.encoder import IndexEncoder
from curate.index.index import Index, open_index
from curate.index.search.engine import EngineChoice, choose_engine, recall_on
from curate.query_set import encode_queries, find_queries, quotas_of, with_texts
from curate.retrieve_options import RetrieveOptions
from curate.selection.background import measure_background
from curate.selection.candidates import OVERFETCH
from curate.selection.guard import ExcludedSet, LeakageGuard, load_excluded
from curate.selection.near_duplicates import NearDuplicates
from curate.selection.queries import Query, QuerySet
from curate.selection.select import select
from curate.selection.select_options import SelectOptions
from curate.selection.selection import Selection
from curate.selection.texts import require_text_tower
from curate.selection.thresholds import Calibration
from curate.transfer_set.manifest import describe_arguments
from curate.transfer_set.plan import require_apart
from curate.transfer_set.remarks import tell_selection
from curate.transfer_set.retrieved_set import RetrieveReport, write_set
from curate.transfer_set.writing import Retrieved
from transferset.console import say
from transferset.errors import UsageError
from transferset.models.runtime import FrozenModel

_RECALL_DEPTH = 100
_UNGUARDED = (
    "no leakage guard: images of your val and test sets may be in the pool and will not be kept out; "
    "name their folders with --exclude-dir"
)


def retrieve(
    index: Path | Index, query_dir: Path | None, out: Path, options: RetrieveOptions
) -> RetrieveReport:
    """Retrieve images for the queries in `query_dir` and write them to `out` as a transfer set.

    With strategy "text" the queries are the names of the classes in `query_dir`, or the options' class names.

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
    read = [("--index", opened.path), *([("--query-dir", Path(query_dir))] if query_dir else [])]
    require_apart(out, [*read, *(("--exclude-dir", folder) for folder in options.exclude_dirs)])
    if options.selection.strategy in ("text", "text-image"):
        require_text_tower(opened.encoder_spec)
    query_set = find_queries(query_dir, options)
    excluded = None
    if options.exclude_dirs:
        excluded = load_excluded(options.exclude_dirs, options.max_pixels, options.threads)
    quotas = quotas_of(query_set.labels, options.selection)
    options, engine = with_engine(opened, quotas, options)
    encoder = IndexEncoder(opened, options.device)
    near = find_calibration(opened, out, encoder, options.pipeline) if options.near else None
    arguments = describe_arguments(opened, query_set, excluded, options.selection, options.shard_size, near)

    def made_of(selection: Selection) -> Retrieved:
        included, seed = options.selection.include_queries, options.selection.seed
        return Retrieved(opened, query_set, excluded, selection, included, seed, near)

    return write_set(
        out,
        arguments,
        lambda: _select(encoder, query_set, excluded, near, options, engine),
        made_of,
        options.shard_size,
        options.threads,
    )


def retrieve_items(
    index: Index,
    encoder: FrozenModel | None,
    queries: Sequence[Query],
    options: SelectOptions,
    guard: LeakageGuard | None = None,
    pipeline: PipelineOptions | None = None,
    duplicates: NearDuplicates | None = None,
    texts: Mapping[str | None, np.ndarray] | None = None,
) -> Selection:
    """The selection for queries in memory, which the command line and the HTTP service share.

    Args:
        encoder: the index's encoder; None if every query has its vector, or for strategy "random".
        queries: distinct by id; labels may be None.
        guard, duplicates: what is kept out besides the queries.
        texts: the vectors of the labels' names, for strategy "text-image".

    Raises:
        UsageError: amounts that don't fit the number of queries.
        DataError: an unreadable query, or nothing to retrieve.
        NumericError: an embedding that is not finite.
    """
    if options.strategy == "random":
        vectors = np.empty((len(queries), index.dimension), dtype=np.float32)
    else:
        vectors = encode_queries(index, encoder, queries, pipeline, crops=options.tuning.crops)
    identities = [query.query_id for query in queries]
    labels = [query.label for query in queries]
    quotas = quotas_of(labels, options)
    return select(index, vectors, identities, labels, quotas, options, guard, duplicates, texts)


def _select(
    encoder: IndexEncoder,
    query_set: QuerySet,
    excluded: ExcludedSet | None,
    near: Calibration | None,
    options: RetrieveOptions,
    engine: EngineChoice,
) -> Selection:
    """Load the encoder if it is needed, search, and say how it went."""
    index, pipeline = encoder.index, options.pipeline
    model = texts = None
    queries: Sequence[Query] = query_set.queries
    if excluded is None:
        say(f"WARNING: {_UNGUARDED}")
    if options.selection.strategy != "random":
        model = encoder.model
        queries, texts = with_texts(query_set, index.encoder_spec, encoder.text, options.selection)
        say(engine.sentence)
    guard, duplicates = make_checks(encoder, excluded, near, pipeline)
    search: dict[str, Any] = {"engine": engine.engine, "reason": engine.reason}
    background = None
    if model is not None:
        crops = options.selection.tuning.crops
        vectors = encode_queries(index, model, queries, pipeline, crops=crops)
        queries = [replace(query, vector=vector) for query, vector in zip(queries, vectors, strict=True)]
        whole = vectors[:, 0] if crops else vectors
        background = measure_background(index, whole, options.selection.seed)
    if engine.engine == "faiss" and model is not None:
        search |= recall_on(index, whole, _RECALL_DEPTH, options.selection.seed)
        say(
            f"recall@{search['depth']} on {search['queries']} of the queries against exact search: "
            f"{search['recall']:.3f} (on rows of the pool: {index.manifest['faiss']['recall']})"
        )
    selection = retrieve_items(index, model, queries, options.selection, guard, pipeline, duplicates, texts)
    tell_selection(selection, query_set, excluded, near, index.has_bytes)
    if duplicates is not None:
        pairs = duplicates.compared + (guard.near.compared if guard is not None and guard.near else 0)
        say(f"near checks: {pairs} suspects compared by their pixels")
    return (
        selection
        if options.selection.strategy == "random"
        else replace(selection, search=search, background=background)
    )


def with_engine(
    index: Index, quotas: Sequence[int], options: RetrieveOptions
) -> tuple[RetrieveOptions, EngineChoice]:
    """The options with the engine that is taken, and why."""
    depth = OVERFETCH * max(quotas, default=1)
    selection = options.selection
    if selection.engine == "auto" and selection.strategy == "cluster":
        choice = EngineChoice("exact", "only the clusters of the queries are looked at")
    elif selection.engine == "auto" and selection.filters.active:
        choice = EngineChoice("exact", "the recall of approximate search is not known for filtered images")
    else:
        searches = len(quotas) * (CROPS if selection.tuning.crops else 1)
        choice = choose_engine(index, searches, depth, selection.engine)
    return replace(options, selection=replace(options.selection, engine=choice.engine)), choice
