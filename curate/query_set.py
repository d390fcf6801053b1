"""The query set of a retrieval: found, turned into vectors, and given quotas."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from curate.encoding.crops import CROPS, encode_views
from curate.encoding.pipeline import Encoded, PipelineOptions, Unreadable, encode_items
from curate.index.index import Index
from curate.retrieve_options import RetrieveOptions
from curate.selection.queries import Query, QuerySet, load_queries
from curate.selection.quotas import plan_class_quotas, plan_quotas
from curate.selection.select_options import SelectOptions
from curate.selection.strategies import BY_CLASS
from curate.selection.texts import no_text_tower, text_queries, text_vectors
from transferset.console import say
from transferset.errors import DataError, UsageError
from transferset.labelled import load_labelled
from transferset.models.runtime import FrozenModel
from transferset.models.text import TextTower
from transferset.prompts import text_vector


def find_queries(query_dir: Path | None, options: RetrieveOptions) -> QuerySet:
    """The query set, which is told on stderr: images, or for strategy "text" the names of classes.

    UsageError where the strategy needs what isn't given; DataError for unreadable queries.
    """
    tuning = options.selection.tuning
    if options.selection.strategy != "text":
        if query_dir is None:
            raise UsageError(
                f"--query-dir is missing: --strategy {options.selection.strategy} retrieves for images",
                hint="give a folder of labelled images, or use --strategy text with --class-names",
            )
        return _load_queries(Path(query_dir), options)
    if query_dir is None and not tuning.class_names:
        raise UsageError("--strategy text needs class names", hint="give --class-names or --query-dir")
    labels = list(tuning.class_names) if query_dir is None else _class_folders(Path(query_dir))
    query_set = text_queries(labels, tuning)
    say(f"{len(query_set.queries)} classes, each in {len(tuning.templates)} sentences")
    return query_set


def _class_folders(query_dir: Path) -> list[str | None]:
    """The classes of a labelled folder or table; none of its images is opened."""
    labelled = load_labelled(query_dir)
    return [None] if not labelled.classes else list(labelled.classes)


def _load_queries(query_dir: Path, options: RetrieveOptions) -> QuerySet:
    query_set = load_queries(query_dir, options.max_pixels, options.threads)
    tell_queries(query_set)
    rate = len(query_set.errors) / (len(query_set.errors) + len(query_set.repeats) + len(query_set.queries))
    if options.max_error_rate is not None and rate > options.max_error_rate:
        raise DataError(
            f"{len(query_set.errors)} query images are unreadable, a share of {rate:.3f}; "
            f"--max-error-rate is {options.max_error_rate}"
        )
    return query_set


def tell_queries(query_set: QuerySet) -> None:
    """Say on stderr how many queries there are, and what is wrong with others."""
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


def encode_queries(
    index: Index,
    encoder: FrozenModel | None,
    queries: Sequence[Query],
    pipeline: PipelineOptions | None = None,
    *,
    crops: bool = False,
) -> np.ndarray:
    """The queries' embeddings (q, d) float32, L2-normalised, or with `crops` (q, v, d), the whole image
    first; ready vectors are taken as they are, once for each view."""
    views = CROPS if crops else 1
    vectors = np.empty((len(queries), views, index.dimension), dtype=np.float32)
    images = []
    for place, query in enumerate(queries):
        if query.vector is None:
            images.append((place, query))
        else:
            vectors[place] = query.vector
    if images:
        if encoder is None:
            raise ValueError("queries without a vector need an encoder")
        for place, embedded in _embedded(encoder, images, pipeline or PipelineOptions(), crops):
            vectors[place] = embedded
    return vectors if crops else vectors[:, 0]


def _embedded(
    encoder: FrozenModel, images: Sequence[tuple[int, Query]], pipeline: PipelineOptions, crops: bool
) -> Iterator[tuple[int, np.ndarray]]:
    """The place and the vectors, (d,) or (v, d), of each query."""
    encode = encode_views if crops else encode_items
    for outcome in encode(encoder, images, lambda one: one[1].read(), pipeline):
        if isinstance(outcome, Unreadable):
            raise DataError(f"query {outcome.item[1].name} cannot be read: {outcome.reason}")
        if isinstance(outcome, Encoded):
            yield outcome.item[0], outcome.embedding
        else:
            yield outcome[0][0], outcome[1]


def quotas_of(labels: Sequence[str | None], options: SelectOptions) -> list[int]:
    """The quota of each query, by the label of each, under these options."""
    if options.strategy in BY_CLASS:
        return plan_class_quotas(
            labels,
            total=options.total,
            per_query=options.per_query,
            include_queries=options.include_queries,
            seed=options.seed,
        )
    return plan_quotas(
        len(labels),
        total=options.total,
        per_query=options.per_query,
        include_queries=options.include_queries,
        seed=options.seed,
    )


def with_texts(
    query_set: QuerySet, spec: str, tower: TextTower | None, options: SelectOptions
) -> tuple[Sequence[Query], dict[str | None, np.ndarray] | None]:
    """The queries, with their vectors if they are texts, and the vectors of the classes' names if the
    strategy needs them. UsageError where the encoder has no text tower."""
    if options.strategy not in ("text", "text-image"):
        return query_set.queries, None
    if tower is None:
        raise no_text_tower(spec)
    if options.strategy == "text-image":
        return query_set.queries, text_vectors(tower.encode, query_set.labels, options.tuning)
    return [replace(one, vector=text_vector(tower.encode, one.prompts)) for one in query_set.queries], None
