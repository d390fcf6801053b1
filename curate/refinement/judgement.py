"""What a teacher says of a transfer set: the table of `distill label --table`, read as a file."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transferset.errors import DataError, UsageError
from transferset.writes import sha256_file

_COLUMNS = ("item_id", "entropy", "probabilities")
_HOW = "write it with distill label --table, of the transfer set that --from names"


@dataclass(frozen=True, eq=False)
class Judgement:
    """n images of a transfer set in its order: `ids` (its item ids, hex), `probabilities` (n, C) float32 of
    `classes`, `entropy` (n,) in nats. `unjudged` of the set's images are not in the table, or could not be
    read there. The checksums are those of the table and of the set's samples.parquet."""

    ids: tuple[str, ...]
    probabilities: np.ndarray
    entropy: np.ndarray
    classes: tuple[str, ...]
    unjudged: int
    table_sha256: str
    samples_sha256: str


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
        classes = json.loads((found.schema.metadata or {})[b"classes"])
        ids, entropy, probabilities = (found.column(name).to_pylist() for name in _COLUMNS)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise DataError(f"{table} is no table of a teacher's answers: {error}", hint=_HOW) from error
    named = {one: place for place, one in enumerate(ids) if probabilities[place] is not None}
    rows = {
        one: named[one if one in named else other]
        for one, other in wanted.items()
        if {one, other} & named.keys()
    }
    judged = list(rows)
    if not judged:
        raise DataError(f"{table} holds none of the {len(wanted)} images of {transfer_set}", hint=_HOW)
    try:
        matrix = np.array([probabilities[rows[one]] for one in judged], np.float32)
        nats = np.array([entropy[rows[one]] for one in judged], np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"{table} is damaged: {error}", hint=_HOW) from error
    if matrix.shape != (len(judged), len(classes)) or not (
        np.isfinite(matrix).all() and np.isfinite(nats).all()
    ):
        raise DataError(f"{table} is damaged: not {len(classes)} finite probabilities an image", hint=_HOW)
    unjudged = len(wanted) - len(judged)
    checksums = sha256_file(table), sha256_file(samples)
    return Judgement(tuple(judged), matrix, nats, tuple(classes), unjudged, *checksums)


def _names(samples: Path) -> dict[str, str]:
    """The id of the bytes of every image of a transfer set by its item id; mostly the same."""
    import pyarrow.parquet as pq

    names = [one for one in ("item_id", "bytes_id") if one in pq.read_schema(samples).names]
    table = pq.read_table(samples, columns=names)
    ids, bytes_ids = (table.column(one).to_pylist() for one in (names[0], names[-1]))
    return dict(zip(ids, bytes_ids, strict=True))
