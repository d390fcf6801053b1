"""What the teacher said of the views of a run, out of a store that was labelled before."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from distill.data.batches import Batch, BatchReader
from distill.data.compact_logits import LogitFormat, targets
from distill.data.label_shards import LabelShard, Unit
from distill.data.label_store import rows_of
from distill.loop.ledger import Stage


class StoredOutputs:
    """Fills `targets` of batches from `shards`, which hold the images of `units`; the teacher costs nothing.

    Targets are what it said of classes, kept as `layout` says (None: not asked for), and behind it the
    `features` numbers of its features (0: not asked for).
    Samples beyond the units' rows are further copies of the labelled images, the last unit.
    """

    found = True

    def __init__(
        self,
        layout: LogitFormat | None,
        units: Sequence[Unit],
        shards: Sequence[LabelShard],
        samples: int,
        features: int = 0,
    ) -> None:
        self._layout = layout
        self._features = features
        self._width = (layout.width if layout else 0) + features
        self._shards = shards
        self._shard = np.empty(samples, dtype=np.int64)
        self._row = np.empty(samples, dtype=np.int64)
        for number, unit in enumerate(units):
            self._shard[unit.rows] = number
            self._row[unit.rows] = np.arange(len(unit.rows))
        once = sum(len(unit.rows) for unit in units)
        if once < samples:
            last = len(units[-1].rows)
            self._shard[once:] = len(units) - 1
            self._row[once:] = np.arange(samples - once) % last

    @property
    def costs(self) -> dict[str, Stage]:
        """Nothing."""
        return {"teacher": Stage()}

    def fill(self, batch: Batch) -> Batch:
        """The batch with its targets: (b, width) float32, of classes as `LogitFormat` describes them."""
        assert batch.numbers is not None
        filled = np.empty((len(batch.indices), self._width), dtype=np.float32)
        shard = self._shard[batch.indices]
        for number in np.unique(shard):
            here = shard == number
            filled[here] = self._read(
                self._shards[number], self._row[batch.indices[here]], batch.numbers[here]
            )
        return replace(batch, targets=filled)

    def _read(self, shard: LabelShard, rows: np.ndarray, views: np.ndarray) -> np.ndarray:
        parts = [targets(rows_of(shard, rows, views), self._layout)] if self._layout else []
        if self._features:
            assert shard.features is not None
            parts.append(shard.features[rows, views].astype(np.float32))
        return np.concatenate(parts, axis=1)

    def replay(self, reader: BatchReader, steps: int) -> None:
        """There is nothing to compute again."""

    def flush(self) -> None:
        """There is nothing to write."""

    def close(self) -> None:
        """Let go of the files."""
        self._shards = ()
