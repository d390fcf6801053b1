"""`curate refine`: retrieve again, with what a teacher says of the images that were retrieved first."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from curate.copies.checks import find_calibration, make_checks
from curate.index.encoder import IndexEncoder
from curate.index.index import Index, open_index
from curate.pools.listing import MADE_OF
from curate.query_set import encode_queries, find_queries
from curate.refinement.judgement import Judgement, read_judgement
from curate.refinement.rule import Refined, Rule, refine_by
from curate.retrieval import with_engine
from curate.retrieve_options import RetrieveOptions
from curate.selection.guard import LeakageGuard, load_excluded
from curate.selection.near_duplicates import NearDuplicates
from curate.selection.queries import Query, QuerySet
from curate.selection.select import select
from curate.selection.selection import Selection
from curate.transfer_set.manifest import describe_arguments
from curate.transfer_set.plan import require_apart
from curate.transfer_set.remarks import tell_selection
from curate.transfer_set.retrieved_set import RetrieveReport, write_set
from curate.transfer_set.writing import Retrieved
from transferset.console import say
from transferset.errors import UsageError
from transferset.vectors import unit
from transferset.writes import write_parquet

REFINED = "refined.parquet"


@dataclass(frozen=True)
class RefineReport:
    """The refined transfer set; `dropped` images of the first one are not in it, `uncertain` ones were
    queries; `mass` and `weights` by class, see `curate.refinement.rule`."""

    retrieved: RetrieveReport
    dropped: int
    uncertain: int
    unjudged: int
    mass: dict[str, float]
    weights: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, for `--json`."""
        names = ("dropped", "uncertain", "unjudged", "mass", "weights")
        return {**self.retrieved.to_dict(), **{name: getattr(self, name) for name in names}}


def refine(
    index: Path | Index,
    query_dir: Path,
    table: Path,
    transfer_set: Path,
    out: Path,
    options: RetrieveOptions,
    rule: Rule | None = None,
) -> RefineReport:
    """Write to `out` a transfer set of `options.selection.total` images that are retrieved anew for the
    queries in `query_dir` and for uncertain images of `transfer_set`, by the rule (see
    `curate.refinement.rule`) and the teacher's `table` of it.

    It is a transfer set like any other; its manifest's arguments name the checksums of table and first set,
    and refined.parquet says which images were dropped or became queries. The same command finishes what a
    stopped one began. Raises as `retrieve` does, and for a table that is none or of other images.
    """
    out, rule = Path(out), rule or Rule()
    if options.selection.total is None or options.selection.strategy != "query-balanced":
        raise UsageError("refine takes a total, and strategy query-balanced")
    opened = index if isinstance(index, Index) else open_index(index, options.pool_roots)
    read = [("--index", opened.path), ("--query-dir", Path(query_dir)), ("--from", Path(transfer_set))]
    require_apart(out, [*read, *(("--exclude-dir", folder) for folder in options.exclude_dirs)])
    judgement = read_judgement(Path(table), Path(transfer_set))
    _require_index_of(opened, judgement)
    query_set = find_queries(Path(query_dir), options)
    refined = refine_by(rule, judgement, query_set.labels, options.selection.total)
    _tell_rule(rule, judgement, refined)
    pool = _pool_queries(opened, judgement, refined)
    joint = replace(query_set, queries=(*query_set.queries, *pool))
    quotas = [*refined.quotas, *refined.uncertain_quotas]
    excluded = None
    if options.exclude_dirs:
        excluded = load_excluded(options.exclude_dirs, options.max_pixels, options.threads)
    options, engine = with_engine(opened, quotas, options)
    encoder = IndexEncoder(opened, options.device)
    near = find_calibration(opened, out, encoder, options.pipeline) if options.near else None
    arguments = {
        **describe_arguments(opened, joint, excluded, options.selection, options.shard_size, near),
        "refine": {**rule.describe(), "table": judgement.table_sha256, "from": judgement.samples_sha256},
    }

    def choose() -> Selection:
        say(engine.sentence)
        checks = make_checks(encoder, excluded, near, options.pipeline)
        dropped = _dropped(judgement, refined)
        selection = _select(encoder, query_set, pool, quotas, options, checks, dropped)
        tell_selection(selection, joint, excluded, near, opened.has_bytes)
        return selection

    report = write_set(
        out,
        arguments,
        choose,
        lambda selection: Retrieved(opened, joint, excluded, selection, False, options.selection.seed, near),
        options.shard_size,
        options.threads,
        also=lambda: write_parquet(out / REFINED, _refined_table(judgement, refined)),
    )
    dropped, uncertain = len(refined.dropped), len(refined.uncertain)
    return RefineReport(report, dropped, uncertain, judgement.unjudged, refined.mass, refined.weights)


def _require_index_of(index: Index, judgement: Judgement) -> None:
    if not any(index.positions_of(bytes.fromhex(item_id)) for item_id in judgement.ids):
        raise UsageError(
            f"none of the {len(judgement.ids)} judged images of --from is in {index.path}, whose ids are "
            f"of {MADE_OF[index.plan.id_kind]}",
            hint="give the index that it was retrieved from",
        )


def _pool_queries(index: Index, judgement: Judgement, refined: Refined) -> list[Query]:
    """The uncertain images as queries, their vectors from the index, which an index over URLs has too, and
    their bytes where it has them; hinted is what the teacher finds most probable. UsageError where the index
    does not hold one."""
    queries = []
    for row in refined.uncertain.tolist():
        item_id = judgement.ids[row]
        position = index.find(bytes.fromhex(item_id))
        if position is None:
            raise UsageError(
                f"image {item_id} of --from is not in {index.path}",
                hint="give the index that it was retrieved from",
            )
        label = judgement.classes[int(judgement.probabilities[row].argmax())]
        data = index.read_bytes(index.item(position)) if index.has_bytes else None
        queries.append(
            Query(
                item_id,
                label,
                f"uncertain {item_id[:12]}",
                data=data,
                vector=unit(index.vectors(np.array([position], np.int64)))[0],
            )
        )
    return queries


def _select(
    encoder: IndexEncoder,
    query_set: QuerySet,
    pool: list[Query],
    quotas: list[int],
    options: RetrieveOptions,
    checks: tuple[LeakageGuard | None, NearDuplicates | None],
    dropped: list[str],
) -> Selection:
    """As in `retrieve`, but for the dropped images. Uncertain images are of the pool and may be taken, first
    of all by themselves."""
    index = encoder.index
    queries = [*query_set.queries, *pool]
    vectors = encode_queries(index, encoder.model, queries, options.pipeline)
    without = [p for one in dropped for p in index.positions_of(bytes.fromhex(one))]
    own = [query.query_id for query in query_set.queries]
    labels = [query.label for query in queries]
    return select(index, vectors, own, labels, quotas, options.selection, *checks, without=without)


def _dropped(judgement: Judgement, refined: Refined) -> list[str]:
    return [judgement.ids[row] for row in refined.dropped.tolist()]


def _tell_rule(rule: Rule, judgement: Judgement, refined: Refined) -> None:
    say(f"{len(judgement.ids)} images judged, {judgement.unjudged} not")
    if rule.drop is None and (judgement.on_task is None or judgement.random_on_task is None):
        say("note: nothing is dropped as off task: the table has no scores of random images of the pool")
        say("  distill label --table … --reject-from POOL adds them; --drop SHARE works without them")
    say(f"off task: {len(refined.dropped)} dropped; uncertain: {len(refined.uncertain)} become queries")
    order = sorted(refined.weights, key=lambda name: -refined.weights[name])
    most = ", ".join(f"{name} × {refined.weights[name]:.2f}" for name in order[:3])
    least = ", ".join(f"{name} × {refined.weights[name]:.2f}" for name in order[-3:])
    say(f"quotas: most {most}; least {least}")


def _refined_table(judgement: Judgement, refined: Refined) -> Any:
    """One row per image that was dropped or became a query: what the teacher said of it."""
    import pyarrow as pa

    rows = [
        {
            "item_id": judgement.ids[row],
            "role": role,
            "entropy": float(judgement.entropy[row]),
            "on_task": None if judgement.on_task is None else float(judgement.on_task[row]),
            "predicted": judgement.classes[int(judgement.probabilities[row].argmax())],
            "confidence": float(judgement.probabilities[row].max()),
        }
        for role, chosen in (("off task", refined.dropped), ("uncertain", refined.uncertain))
        for row in chosen.tolist()
    ]
    schema = pa.schema(
        [
            ("item_id", pa.string()),
            ("role", pa.string()),
            ("entropy", pa.float32()),
            ("on_task", pa.float32()),
            ("predicted", pa.string()),
            ("confidence", pa.float32()),
        ]
    )
    return pa.Table.from_pylist(rows, schema=schema)
