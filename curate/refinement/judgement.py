"""What a teacher says of a transfer set: the table of `distill label --table`, read as a file."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transferset.errors import DataError, UsageError
from transferset.writes import sha256_file

_COLUMNS = ("item_id", "entropy", "probabilities")
_ON_TASK = "on_task"
_HOW = "write it with distill label --table, of the transfer set that --from names"


@dataclass(frozen=True, eq=False)
class Judgement:
    """n images of a transfer set in its order: `ids` (its item ids, hex), `probabilities` (n, C) float32 of
    `classes`, `entropy` (n,) in nats. `on_task` (n,): how much each looks like any of the classes, and
    `random_on_task` (m,), in ascending order, how much random images of a pool do; None in tables that do not
    say. `unjudged` of the set's images could not be read when the teacher was asked, or are cut off with
    their shard. The checksums are those of the table and of the set's samples.parquet."""

    ids: tuple[str, ...]
    probabilities: np.ndarray
    entropy: np.ndarray
    classes: tuple[str, ...]
    unjudged: int
    table_sha256: str
    samples_sha256: str
    on_task: np.ndarray | None = None
    random_on_task: np.ndarray | None = None


def read_judgement(table: Path, transfer_set: Path) -> Judgement:
    """The rows of the table that are images of the transfer set. In one that was fetched from URLs they may
    also be named by the ids of their bytes, as they are where its tars alone were labelled. The table may
    hold more: other sets that were labelled with this one, and an image as often as these sets have it, whose
    answers are the same, for its views are drawn by its id; it counts once.

    Raises UsageError where `transfer_set` is none or the table is not there, DataError where the table is
    damaged, not such a table, or lacks images of the set.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    samples = transfer_set / "samples.parquet"
    if not samples.is_file():
        raise UsageError(f"--from {transfer_set} is not a transfer set: it has no samples.parquet")
    if not table.exists():
        raise UsageError(f"--table {table} does not exist", hint=_HOW)
    try:
        wanted = _names(samples)
        found = pq.read_table(table)
        metadata = found.schema.metadata or {}
        classes, random = json.loads(metadata[b"classes"]), metadata.get(b"random_on_task")
        ids, entropy, probabilities = (found.column(name).to_pylist() for name in _COLUMNS)
        on_task = found.column(_ON_TASK).to_pylist() if _ON_TASK in found.column_names else None
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise DataError(f"{table} is not a table of a teacher's outputs: {error}", hint=_HOW) from error
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise DataError(f"{table} is damaged: its classes are not a list of names", hint=_HOW)
    _require_all(table, transfer_set, wanted, set(ids))
    judged = {one: place for place, one in enumerate(ids) if probabilities[place] is not None}
    rows = _rows(wanted, judged)
    if not rows:
        raise DataError(
            f"the teacher of {table} could read none of the {len(wanted)} images of {transfer_set}",
            hint="its shards are damaged: copy the set again, and label it again",
        )
    try:
        matrix = np.array([probabilities[row] for row in rows.values()], np.float32)
        nats = np.array([entropy[row] for row in rows.values()], np.float32)
        scores = None if on_task is None else np.array([on_task[row] for row in rows.values()], np.float32)
        compared = None if random is None else np.array(json.loads(random)["scores"], np.float32)
    except (TypeError, ValueError, KeyError) as error:
        raise DataError(f"{table} is damaged: {error}", hint=_HOW) from error
    numbers = [one for one in (matrix, nats, scores, compared) if one is not None]
    finite = all(one.size and np.isfinite(one).all() for one in numbers)
    if matrix.shape != (len(rows), len(classes)) or not finite:
        raise DataError(f"{table} is damaged: not {len(classes)} finite probabilities per image", hint=_HOW)
    return Judgement(
        ids=tuple(rows),
        probabilities=matrix,
        entropy=nats,
        classes=tuple(classes),
        unjudged=len(wanted) - len(rows),
        table_sha256=sha256_file(table),
        samples_sha256=sha256_file(samples),
        on_task=scores,
        random_on_task=compared,
    )


def _rows(wanted: dict[str, str], judged: dict[str, int]) -> dict[str, int]:
    """The row of every image that was judged, under either of its ids."""
    return {
        one: judged[one if one in judged else other]
        for one, other in wanted.items()
        if {one, other} & judged.keys()
    }


def _require_all(table: Path, transfer_set: Path, wanted: dict[str, str], named: set[str]) -> None:
    """DataError for images without a row, which unreadable ones have too; `distill label` leaves out none but
    those that are cut off with their shard."""
    lacking = {one for one, other in wanted.items() if not {one, other} & named}
    if lacking and (lacking := lacking - _cut_off(transfer_set)):
        raise DataError(
            f"{table} has no row for {len(lacking)} of the {len(wanted)} images of {transfer_set}",
            hint="it is of other images: label that transfer set, distill label --shards … --table …",
        )


def _cut_off(transfer_set: Path) -> set[str]:
    """The item ids of images that end beyond the end of their shard."""
    import pyarrow.parquet as pq

    columns = ["item_id", "shard", "offset", "size"]
    rows = pq.read_table(transfer_set / "samples.parquet", columns=columns).to_pylist()
    lengths = {path.name: path.stat().st_size for path in (transfer_set / "shards").glob("*.tar")}
    return {
        row["item_id"]
        for row in rows
        if row["shard"] in lengths and row["offset"] + row["size"] > lengths[row["shard"]]
    }


def _names(samples: Path) -> dict[str, str]:
    """The id of the bytes of every image of a transfer set by its item id; mostly the same."""
    import pyarrow.parquet as pq

    names = [one for one in ("item_id", "bytes_id") if one in pq.read_schema(samples).names]
    table = pq.read_table(samples, columns=names)
    ids, bytes_ids = (table.column(one).to_pylist() for one in (names[0], names[-1]))
    return dict(zip(ids, bytes_ids, strict=True))
