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
    say. `unjudged` of the set's images are not in the table, or could not be
    read there. The checksums are those of the table and of the set's samples.parquet."""

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
    also be named by the ids of their bytes, as they are where its tars alone were labelled.

    Raises UsageError where `transfer_set` is none, DataError where the table is damaged, not such a table, or
    of other images.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    samples = transfer_set / "samples.parquet"
    if not samples.is_file():
        raise UsageError(f"--from {transfer_set} is no transfer set: it has no samples.parquet")
    try:
        wanted = _names(samples)
        found = pq.read_table(table)
        metadata = found.schema.metadata or {}
        classes, random = json.loads(metadata[b"classes"]), metadata.get(b"random_on_task")
        ids, entropy, probabilities = (found.column(name).to_pylist() for name in _COLUMNS)
        on_task = found.column(_ON_TASK).to_pylist() if _ON_TASK in found.column_names else None
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise DataError(f"{table} is no table of a teacher's answers: {error}", hint=_HOW) from error
    named = {one: place for place, one in enumerate(ids) if probabilities[place] is not None}
    rows = {
        one: named[one if one in named else other]
        for one, other in wanted.items()
        if {one, other} & named.keys()
    }
    if not rows:
        raise DataError(f"{table} holds none of the {len(wanted)} images of {transfer_set}", hint=_HOW)
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
        raise DataError(f"{table} is damaged: not {len(classes)} finite probabilities an image", hint=_HOW)
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


def _names(samples: Path) -> dict[str, str]:
    """The id of the bytes of every image of a transfer set by its item id; mostly the same."""
    import pyarrow.parquet as pq

    names = [one for one in ("item_id", "bytes_id") if one in pq.read_schema(samples).names]
    table = pq.read_table(samples, columns=names)
    ids, bytes_ids = (table.column(one).to_pylist() for one in (names[0], names[-1]))
    return dict(zip(ids, bytes_ids, strict=True))
