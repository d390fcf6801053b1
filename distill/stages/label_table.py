"""`distill label --table`: what the teacher says of every image of the transfer set, as one Parquet row."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from distill.data.compact_logits import probabilities
from distill.data.label_shards import LABELLED, LabelShard, Unit
from distill.data.label_store import LabelStore, rows_of
from distill.data.mixture import Mixture
from distill.data.samples import Samples
from distill.data.set_rows import SetRows, find_rows, set_rows
from distill.stages.random_scores import RandomScores
from transferset.console import say
from transferset.writes import atomic_path, sweep_temporaries_of

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 4096


def write_table(
    path: Path,
    store: LabelStore,
    mixture: Mixture,
    shards: Sequence[str | Path],
    random: RandomScores | None = None,
) -> None:
    """One row per sample of the transfer set, in its order, written in pieces and renamed at the end.

    `item_id` (hex) as the transfer set's samples.parquet has it, `bytes_id`, the id of the bytes, which is
    another one where the set was fetched from URLs; `shard`, `hinted_label` (null where the transfer set has
    none), `predicted` and `confidence` (the most probable class), `entropy` (nats), `probabilities`
    (list<float32>, in the order of the classes, which the schema's metadata holds as `classes`): the mean
    over the views; `on_task`: how much the image looks like any of the classes, the mean over the views of
    the logits' log-sum-exp (see `distill.finished.rejection.scores`). What the teacher says is null for an
    image that could not be read. `random`: what to compare `on_task` with, in the metadata `random_on_task`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    known = set_rows(shards)
    schema = _schema(store, random)
    units = mixture.units(store.views)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep_temporaries_of(path)
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for unit, shard in zip(units, store.find(mixture.samples, units), strict=True):
            if unit.name == LABELLED:
                continue
            for rows in _blocks(len(unit.rows)):
                columns = {
                    **_names(mixture.samples, unit.rows[rows], known),
                    "shard": [unit.name] * len(rows),
                    **_answers(store, shard, unit, rows),
                }
                writer.write_table(pa.table(columns, schema=schema))
    say(f"wrote {path}: {mixture.transfer} images")


def _schema(store: LabelStore, random: RandomScores | None) -> "pa.Schema":
    import pyarrow as pa

    fields = [
        ("item_id", pa.string()),
        ("bytes_id", pa.string()),
        ("shard", pa.string()),
        ("hinted_label", pa.string()),
        ("predicted", pa.string()),
        ("confidence", pa.float32()),
        ("entropy", pa.float32()),
        ("probabilities", pa.list_(pa.float32())),
        ("on_task", pa.float32()),
    ]
    facts = {"classes": json.dumps(list(store.classes)), "teacher_sha256": store.teacher_sha256}
    compared = {"random_on_task": random.to_json()} if random else {}
    return pa.schema(fields, metadata={**facts, "views": str(store.views), **compared})


def _names(samples: Samples, rows: np.ndarray, known: SetRows) -> dict[str, list[str | None]]:
    """What some samples of one tar are called, and hinted to be."""
    ids: list[str | None] = [identity.tobytes().hex() for identity in samples.ids[rows]]
    found = find_rows(known, samples.sources[samples.source[rows[0]]], samples.offset[rows])
    return {
        "item_id": [one.item_id if one else identity for one, identity in zip(found, ids, strict=True)],
        "bytes_id": ids,
        "hinted_label": [one.hinted_label if one else None for one in found],
    }


def _blocks(count: int) -> Iterator[np.ndarray]:
    return (np.arange(start, min(start + _ROWS, count)) for start in range(0, count, _ROWS))


def _answers(store: LabelStore, shard: LabelShard, unit: Unit, rows: np.ndarray) -> dict[str, list[object]]:
    """The columns that the teacher fills; null for unreadable rows."""
    total = np.zeros((len(rows), len(store.classes)), np.float64)
    on_task = np.zeros(len(rows), np.float64)
    for view in range(unit.views):
        answers = rows_of(shard, rows, np.full(len(rows), view))
        total += probabilities(answers, store.layout)
        on_task += answers["log_sum_exp"] / unit.views
    mean = (total / unit.views).astype(np.float32)
    entropy = -(mean * np.log(np.maximum(mean, 1e-30))).sum(axis=1)
    best, readable = mean.argmax(axis=1), shard.readable[rows]
    columns: dict[str, Sequence[object]] = {
        "predicted": [store.classes[number] for number in best],
        "confidence": mean.max(axis=1).tolist(),
        "entropy": np.maximum(entropy, 0).tolist(),
        "probabilities": mean.tolist(),
        "on_task": on_task.tolist(),
    }
    return {
        name: [value if whole else None for value, whole in zip(values, readable, strict=True)]
        for name, values in columns.items()
    }
