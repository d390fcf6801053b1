"""Completing a set: shards as `curate retrieve` writes them, tables, report, and the manifest last.

A sample's members are named by the id of its bytes, as in every transfer set; the id that the pool knows it
by, that of its URL, is `item_id` in its JSON and in samples.parquet, where `bytes_id` stands beside it.
"""

import hashlib
import importlib.metadata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from curate.fetch.agreement import Threshold
from curate.fetch.checks import Check
from curate.fetch.chunks import Outcome
from curate.fetch.options import DownloadOptions
from curate.fetch.reasons import TRANSIENT
from curate.fetch.report import Fetched, build_report
from curate.fetch.state import FetchState, read_table
from curate.fetch.verdicts import Refused, Verdicts
from curate.selection.guard import ExcludedSet
from curate.selection.thresholds import Calibration
from curate.transfer_set.manifest import MANIFEST, REPORT, SHARDS, TABLES, ShardRecord, describe_guard
from curate.transfer_set.samples import Sample
from curate.transfer_set.shards import Shard, plan_shards, remove_others, write_shard
from curate.transfer_set.tables import samples_schema
from transferset.images import EXTENSIONS
from transferset.progress import progress
from transferset.writes import read_json, sha256_file, write_bytes, write_json, write_parquet

if TYPE_CHECKING:
    import pyarrow as pa

    from curate.index.part import ItemRow

NOT_FETCHED = "not_fetched.parquet"
_REASON_COLUMNS = ("place", "reason", "detail", "transient")


@dataclass(frozen=True)
class Completion:
    """What a set is completed with; everything is by place among the `chosen` rows. `items` lacks those that
    the index no longer gives out."""

    chosen: Sequence[Mapping[str, Any]]
    items: Mapping[int, "ItemRow"]
    outcomes: Mapping[int, Outcome]
    checks: Mapping[int, Check]
    verdicts: Verdicts
    threshold: Threshold
    excluded: ExcludedSet | None
    near: Calibration | None
    options: DownloadOptions


def complete(state: FetchState, done: Completion, workers: int) -> dict[str, Any]:
    """Write everything that is not there yet; returns the manifest."""
    root, manifest = state.transfer_set, state.manifest()
    if read_json(root / MANIFEST).get("shards"):  # of a finished set that gets more images
        write_json(root / MANIFEST, manifest)
    samples = [_sample(place, done) for place in done.verdicts.kept]
    places = {sample.item_id: place for sample, place in zip(samples, done.verdicts.kept, strict=True)}
    records, rows = [], []
    with progress("writing shards", len(samples), "samples") as bar:
        for shard in plan_shards(samples, int(manifest["arguments"]["shard_size"])):
            records.append(_finish(state, shard, done, places, workers))
            rows += _rows(shard)
            bar.advance(len(shard.samples))
    remove_others(root / SHARDS, [record.name for record in records])
    write_parquet(root / "samples.parquet", samples_table(rows))
    write_not_fetched(state, done)
    write_parquet(root / "queries.parquet", _queries(read_table(root / "queries.parquet"), rows))
    guard = describe_guard(done.excluded, done.near)
    told = describe(done)
    page = build_report(Fetched(done.chosen, done.outcomes, done.verdicts, done.threshold, told, guard))
    write_bytes(root / REPORT, page.encode("utf-8"))
    manifest |= {
        "bytes": "written",
        "fetch": told,
        "guard": guard,
        "outcome": {**manifest["outcome"], "samples": len(samples)},
        "shards": [asdict(record) for record in records],
        "files": {name: sha256_file(root / name) for name in (*TABLES, NOT_FETCHED, REPORT)},
    }
    write_json(root / MANIFEST, manifest)
    return manifest


def describe(done: Completion) -> dict[str, Any]:
    """The numbers of a fetch, for manifest, report and `--json`."""
    reasons = Counter(one.reason for one in done.verdicts.refused)
    kept = [done.checks[place] for place in done.verdicts.kept]
    agreements = [check.agreement for check in kept if check.agreement is not None]
    by_agreement = len(agreements) if done.threshold.value is not None else 0
    options = done.options
    return {
        "chosen": len(done.chosen),
        "fetched": len(kept),
        "not_fetched": dict(sorted(reasons.items(), key=lambda one: (-one[1], one[0]))),
        "failed_for_now": sum(count for reason, count in reasons.items() if reason in TRANSIENT),
        "unchanged": {
            "by_recorded_hash": sum(check.hash_holds is True for check in kept),
            "by_agreement": by_agreement,
            "not_told": len(agreements) - by_agreement,
        },
        "threshold": asdict(done.threshold),
        "agreement": {"min": round(min(agreements), 4), "median": round(median(agreements), 4)}
        if agreements
        else None,
        "downloader": f"img2dataset {importlib.metadata.version('img2dataset')}",
        "limits": {
            "max_bytes": options.max_bytes,
            "max_seconds": options.max_seconds,
            "timeout": options.timeout,
            "max_redirects": options.max_redirects,
            "private_hosts": options.allow_private_hosts,
            "opt_out": list(options.directives),
            "user_agent_token": options.user_agent_token,
        },
    }


def _sample(place: int, done: Completion) -> Sample:
    row, item, check, outcome = (
        done.chosen[place],
        done.items[place],
        done.checks[place],
        done.outcomes[place],
    )
    provenance = {
        "item_id": row["item_id"],
        "bytes_id": check.item_id,
        "key": item.key,
        "source": row["source"],
        "url": row["url"],
        "licence": row["licence"],
        "caption": item.caption,
        "width": check.width,
        "height": check.height,
        "query_ids": row["query_ids"],
        "hinted_label": row["hinted_label"],
        "rank": row["rank"],
        "similarity": row["similarity"],
        "agreement": check.agreement,
    }
    return Sample(check.item_id, EXTENSIONS[check.format], outcome.size, item, provenance)


def _finish(
    state: FetchState, shard: Shard, done: Completion, places: Mapping[str, int], workers: int
) -> ShardRecord:
    """The record of a shard, which is written unless a stopped run did."""
    digest = hashlib.sha256(b"\n".join(shard.texts)).hexdigest()[:32]
    note = state.folder / SHARDS / f"{shard.name}-{digest}.json"
    target = state.transfer_set / SHARDS / shard.name
    if note.is_file():
        record = ShardRecord(**read_json(note))
        if target.is_file() and sha256_file(target) == record.sha256:
            return record
    checksum = write_shard(
        target.parent, shard, lambda sample: done.outcomes[places[sample.item_id]].read(), workers
    )
    record = ShardRecord(shard.name, len(shard.samples), shard.size, checksum, shard.digest)
    write_json(note, asdict(record))
    return record


def _rows(shard: Shard) -> list[dict[str, Any]]:
    return [
        {**sample.provenance, "shard": shard.name, "offset": offset, "size": sample.size}
        for sample, offset in zip(shard.samples, shard.offsets, strict=True)
    ]


def samples_table(rows: Sequence[Mapping[str, Any]]) -> "pa.Table":
    """samples.parquet of a fetched set: the usual columns, `bytes_id` (hex), and `agreement` with the
    index's row where that was measured."""
    import pyarrow as pa

    schema = samples_schema()
    for name, kind in (("bytes_id", pa.string()), ("agreement", pa.float64())):
        schema = schema.append(pa.field(name, kind))
    return pa.Table.from_pylist(list(rows), schema=schema)


def write_not_fetched(state: FetchState, done: Completion) -> None:
    """not_fetched.parquet: `place` among the chosen, reason, detail, whether another time may help
    (`transient`), and the columns of samples.parquet, so that nothing of the selection is lost."""
    import pyarrow as pa

    schema = state.chosen().schema.remove_metadata()
    for name, kind in (
        ("place", pa.int64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("transient", pa.bool_()),
    ):
        schema = schema.append(pa.field(name, kind))
    rows = [_not_fetched(one, done) for one in done.verdicts.refused]
    write_parquet(state.transfer_set / NOT_FETCHED, pa.Table.from_pylist(rows, schema=schema))


def _not_fetched(refused: Refused, done: Completion) -> dict[str, Any]:
    row, item = dict(done.chosen[refused.place]), done.items.get(refused.place)
    if item is not None:
        known = {"key": item.key, "caption": item.caption}
        row |= {name: value for name, value in known.items() if name in row}
    return {**row, **asdict(refused), "transient": refused.reason in TRANSIENT}


def merge_chosen(samples: "pa.Table", not_fetched: "pa.Table") -> "tuple[pa.Table, list[int]]":
    """The chosen rows of a finished set in their order, and the places of those that were fetched."""
    import pyarrow as pa

    schema = pa.schema([one for one in not_fetched.schema if one.name not in _REASON_COLUMNS])
    missing = {row["place"]: row for row in not_fetched.to_pylist()}
    fetched = iter(samples.to_pylist())
    rows, places = [], []
    for place in range(samples.num_rows + not_fetched.num_rows):
        if place in missing:
            rows.append(missing[place])
            continue
        places.append(place)
        rows.append({**next(fetched), "shard": None, "offset": None, "size": None})
    return pa.Table.from_pylist(rows, schema=schema), places


def _queries(queries: "pa.Table", rows: Sequence[Mapping[str, Any]]) -> "pa.Table":
    """queries.parquet with `fetched`: how many of a query's images are in the set."""
    import pyarrow as pa

    counts = Counter(row["query_ids"][0] for row in rows if row["query_ids"])
    column = pa.array(
        [counts[one] if one else None for one in queries.column("query_id").to_pylist()], pa.int32()
    )
    if "fetched" in queries.column_names:
        queries = queries.drop_columns(["fetched"])
    return queries.append_column("fetched", column)
