"""`curate suggest`: from an index and the images that are labelled to those worth labelling next."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.copies.checks import find_calibration, make_checks
from curate.encoding.pipeline import PipelineOptions
from curate.index.encoder import IndexEncoder
from curate.index.index import Index, open_index
from curate.index.search.engine import EngineChoice, choose_engine
from curate.query_set import encode_queries, quotas_of, tell_queries
from curate.retrieval import retrieve_items
from curate.selection.background import SAMPLE, sample_pool
from curate.selection.candidates import OVERFETCH
from curate.selection.guard import LeakageGuard, load_excluded
from curate.selection.near_duplicates import NearDuplicates
from curate.selection.queries import QuerySet, load_queries
from curate.selection.select_options import SelectOptions
from curate.suggestion.coverage import Coverage, cover
from curate.suggestion.suggested import KIND, StoredSuggestions, Suggested, Suggestion
from curate.suggestion.writing import MadeOf, write_suggestions
from curate.transfer_set.manifest import (
    REPORT,
    describe_arguments,
    guard_statement,
)
from curate.transfer_set.plan import require_apart, write_once
from transferset.console import say
from transferset.cores import available_cores
from transferset.errors import UsageError
from transferset.images import MAX_PIXELS
from transferset.vectors import unit

if TYPE_CHECKING:
    from curate.index.search.engine import AskedEngine

MOST = 1_000
_LEAST_CANDIDATES, _MOST_CANDIDATES, _CANDIDATES_EACH = 2_000, 5_000, 40


@dataclass(frozen=True)
class SuggestOptions:
    """Options of `suggest`.

    Attributes:
        count: images to suggest, 1 to 1,000.
        exclude_dirs: folders (val, test) whose images must not be suggested.
        near: whether near copies of these, and near-duplicates, are kept out too.
        engine: of the search. seed: of what is sampled.
        pool_roots: where pools are now, as {old path: new path}.
        max_pixels: larger query images are unreadable.
        workers: threads that read and decode (None: one a core). device: auto, cpu, cuda, …
    """

    count: int = 50
    exclude_dirs: tuple[Path, ...] = ()
    engine: "AskedEngine" = "auto"
    seed: int = 0
    pool_roots: Mapping[str, str] = field(default_factory=dict)
    max_pixels: int = MAX_PIXELS
    workers: int | None = None
    device: str = "auto"
    near: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST:
            raise UsageError(f"--count must be from 1 to {MOST:,}, got {self.count}")
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"--workers must be at least 1, got {self.workers}")

    @property
    def threads(self) -> int:
        """Threads that read and decode."""
        return self.workers or available_cores()


@dataclass(frozen=True)
class SuggestReport:
    """The suggestions in `out`: their manifest, and whether they were there before this run."""

    out: Path
    manifest: dict[str, Any]
    already_complete: bool

    @property
    def outcome(self) -> dict[str, Any]:
        """The numbers: requested, suggested, candidates, coverage before and after."""
        return dict(self.manifest["outcome"])

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, for `--json`."""
        return {
            **self.outcome,
            "out": str(self.out),
            "table": str(self.out / "suggestions.csv"),
            "report": str(self.out / REPORT),
            "already_complete": self.already_complete,
            "guard": self.manifest["guard"],
            "query_errors": self.manifest["query_errors"],
        }


def suggest(index: Path | Index, query_dir: Path, out: Path, options: SuggestOptions) -> SuggestReport:
    """Find the pool images worth labelling next, and write them to `out`.

    Candidates are the images nearest to the queries, as many for each (see `query_balanced`), so the
    neighbourhood of the task and not the whole pool is to be covered; among them `cover` chooses what stands
    for most of what the queries leave uncovered. Neither a query nor an excluded image is suggested. The same
    command finishes what a stopped one began.

    Raises: UsageError: `out` was written with other arguments or holds something else; the index's encoder is
    not the one that can be loaded now. DataError: no index, no readable query (of a class), nothing to
    suggest, the pool's bytes can't be read. BusyError: another process is writing `out`.
    """
    out = Path(out)
    opened = index if isinstance(index, Index) else open_index(index, options.pool_roots)
    read = [("--index", opened.path), ("--query-dir", Path(query_dir))]
    require_apart(out, [*read, *(("--exclude-dir", folder) for folder in options.exclude_dirs)])
    query_set = load_queries(Path(query_dir), options.max_pixels, options.threads)
    tell_queries(query_set)
    excluded = None
    if options.exclude_dirs:
        excluded = load_excluded(options.exclude_dirs, options.max_pixels, options.threads)
    encoder = IndexEncoder(opened, options.device)
    pipeline = PipelineOptions(options.threads, options.max_pixels)
    near = find_calibration(opened, out, encoder, pipeline) if options.near else None
    amount, engine = _amount(opened, query_set, options)
    arguments = {
        **describe_arguments(opened, query_set, excluded, amount, 0, near),
        "count": options.count,
    }

    def write(stored: StoredSuggestions) -> dict[str, Any]:
        found = stored.load()
        if found is None:
            say(engine.sentence)
            checks = make_checks(encoder, excluded, near, pipeline)
            found = _choose(encoder, query_set, checks, amount, options.count, pipeline)
            say(f"leakage: {guard_statement(excluded, near)}")
            stored.begin(arguments, found)
        made_of = MadeOf(opened, query_set, excluded, near, found, options.count)
        return write_suggestions(out, made_of, arguments, options.threads)

    manifest, already_complete = write_once(out, arguments, StoredSuggestions, write, KIND)
    return SuggestReport(out, manifest, already_complete)


def _amount(index: Index, query_set: QuerySet, options: SuggestOptions) -> tuple[SelectOptions, EngineChoice]:
    """How the candidates are selected, and why by which engine. There are enough to choose from, few enough
    for memory, and of a small pool not more than half."""
    wanted = min(_MOST_CANDIDATES, max(_LEAST_CANDIDATES, _CANDIDATES_EACH * options.count))
    total = max(1, min(wanted, max(options.count, index.distinct // 2)))
    amount = SelectOptions(total=total, seed=options.seed)
    depth = OVERFETCH * max(quotas_of(query_set.labels, amount))
    choice = choose_engine(index, len(query_set.queries), depth, options.engine)
    return replace(amount, engine=choice.engine), choice


def _choose(
    encoder: IndexEncoder,
    query_set: QuerySet,
    checks: tuple[LeakageGuard | None, NearDuplicates | None],
    amount: SelectOptions,
    count: int,
    pipeline: PipelineOptions,
) -> Suggested:
    """Candidates by the queries, suggestions by coverage; both among embeddings from which the pool's mean
    was taken, because all images of an encoder have something in common that tells none apart."""
    index, (guard, duplicates) = encoder.index, checks
    vectors = encode_queries(index, encoder.model, query_set.queries, pipeline)
    ready = [replace(query, vector=vector) for query, vector in zip(query_set.queries, vectors, strict=True)]
    picks = retrieve_items(index, None, ready, amount, guard, pipeline, duplicates).picks
    positions = np.array([pick.position for pick in picks], dtype=np.int64)
    ids = [item.item_id for item in index.items(positions)]
    positions = positions[sorted(range(len(ids)), key=ids.__getitem__)]
    candidates = unit(index.vectors(positions))
    centre = unit(index.vectors(sample_pool(index, SAMPLE, amount.seed))).mean(axis=0)
    found = cover(_centred(candidates, centre), _centred(vectors, centre), count, amount.seed)
    say(
        f"{len(found.chosen)} of {len(positions)} candidates chosen: their mean coverage is "
        f"{found.curve[0]:.3f} by the queries, {found.curve[-1]:.3f} with the suggestions "
        f"({found.random:.3f} with random ones)"
    )
    return _suggested(positions, found, candidates[found.chosen] @ vectors.T)


def _centred(vectors: np.ndarray, centre: np.ndarray) -> np.ndarray:
    return unit(vectors - centre)


def _suggested(positions: np.ndarray, found: Coverage, cosines: np.ndarray) -> Suggested:
    """`cosines` (n, q) are the chosen images' to the queries."""
    suggestions = tuple(
        Suggestion(
            position=int(positions[one]),
            query=int(cosines[place].argmax()),
            similarity=round(float(cosines[place].max()), 4),
            stands_for=int(found.stands_for[place]),
            gain=round(float(found.gains[place]), 6),
        )
        for place, one in enumerate(found.chosen.tolist())
    )
    curve = tuple(found.curve.round(5).tolist())
    return Suggested(suggestions, len(positions), curve, round(found.random, 5))
