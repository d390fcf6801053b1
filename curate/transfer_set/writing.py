"""Writing a transfer set: shards, tables, report, and the manifest last."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.selection.guard import ExcludedSet
from curate.selection.queries import Query, QuerySet
from curate.selection.selection import Selection
from curate.selection.thresholds import Calibration
from curate.transfer_set.manifest import (
    MANIFEST,
    PLOTS,
    REPORT,
    SHARDS,
    ShardRecord,
    build_manifest,
    describe_guard,
    describe_outcome,
)
from curate.transfer_set.measures import describe_measures, measure
from curate.transfer_set.plan import StoredPlan
from curate.transfer_set.report import Reported, build_report
from curate.transfer_set.samples import Sample, build_samples
from curate.transfer_set.shards import Shard, plan_shards, remove_others, write_shard
from curate.transfer_set.tables import (
    queries_table,
    removed_table,
    samples_schema,
    shard_table,
    unfetched_table,
)
from transferset.progress import progress
from transferset.writes import write_bytes, write_json, write_parquet

if TYPE_CHECKING:
    import pyarrow as pa

    from curate.index.index import Index


@dataclass(frozen=True)
class Retrieved:
    """What a transfer set is made of: the index, the queries, what was excluded, and what was selected;
    `near` is the calibration of the near checks (None: there were none)."""

    index: "Index"
    query_set: QuerySet
    excluded: ExcludedSet | None
    selection: Selection
    include_queries: bool
    seed: int
    near: Calibration | None = None


def write_transfer_set(
    out: Path,
    retrieved: Retrieved,
    arguments: dict[str, Any],
    shard_size: int,
    plan: StoredPlan,
    workers: int,
) -> dict[str, Any]:
    """Write everything that is not there yet; returns the manifest.

    The caller holds the folder's lock. Shards that a stopped run finished are kept if they hold these
    samples, after a look at their checksum. DataError, with what to do, where the pool's bytes can't be read.
    """
    samples = build_samples(
        retrieved.index,
        retrieved.query_set.queries,
        retrieved.selection,
        include_queries=retrieved.include_queries,
        seed=retrieved.seed,
    )
    records: list[ShardRecord] = []
    tables: list[pa.Table] = []
    if retrieved.index.has_bytes:
        with progress("writing shards", len(samples), "samples") as bar:
            for shard in plan_shards(samples, shard_size):
                records.append(_finish(out, shard, retrieved.index, plan, workers))
                tables.append(shard_table(shard))
                bar.advance(len(shard.samples))
        remove_others(out / SHARDS, [record.name for record in records])
    else:
        tables.append(unfetched_table(samples))
    _write_tables(out, retrieved, tables)
    written_queries = len(samples) - len(retrieved.selection.picks)
    measures, plots = _write_report(out, retrieved, written_queries)
    manifest = build_manifest(
        out,
        arguments,
        retrieved.query_set,
        retrieved.excluded,
        retrieved.selection,
        records,
        measures,
        plots,
        retrieved.near,
        retrieved.index.plan.id_kind,
    )
    write_json(out / MANIFEST, manifest)
    return manifest


def _finish(out: Path, shard: Shard, index: "Index", plan: StoredPlan, workers: int) -> ShardRecord:
    digest = shard.digest
    record = plan.finished_shard(shard.name, digest)
    if record is None:
        checksum = write_shard(out / SHARDS, shard, lambda sample: _read(index, sample), workers)
        record = ShardRecord(shard.name, len(shard.samples), shard.size, checksum, digest)
        plan.store_shard(record)
    return record


def _read(index: "Index", sample: Sample) -> bytes:
    """The sample's bytes, checked against its id where they come from."""
    origin = sample.origin
    return origin.read() if isinstance(origin, Query) else index.read_bytes(origin)


def _write_report(out: Path, retrieved: Retrieved, written_queries: int) -> tuple[dict[str, Any], list[str]]:
    """Write the report and its plots; returns what was measured, for the manifest, and the plots' names."""
    measures = measure(retrieved.index, retrieved.query_set, retrieved.selection, retrieved.seed)
    report = build_report(
        Reported(
            retrieved.index,
            retrieved.query_set,
            retrieved.selection,
            retrieved.excluded,
            describe_outcome(retrieved.query_set, retrieved.selection, written_queries),
            describe_guard(retrieved.excluded, retrieved.near, retrieved.index.has_bytes),
            measures,
        )
    )
    for name, png in report.plots.items():
        write_bytes(out / PLOTS / name, png)
    write_bytes(out / REPORT, report.html.encode("utf-8"))
    return describe_measures(measures, retrieved.selection), [f"{PLOTS}/{name}" for name in report.plots]


def _write_tables(out: Path, retrieved: Retrieved, tables: "list[pa.Table]") -> None:
    import pyarrow as pa

    samples = pa.concat_tables(tables) if tables else samples_schema().empty_table()
    write_parquet(out / "samples.parquet", samples.combine_chunks())
    queries = queries_table(retrieved.query_set, retrieved.selection, retrieved.include_queries)
    write_parquet(out / "queries.parquet", queries)
    write_parquet(out / "removed.parquet", removed_table(retrieved.index, retrieved.selection.removed))
