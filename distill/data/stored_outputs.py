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

    Samples beyond the units' rows are further copies of the labelled images, the last unit.
    """

    found = True

    def __init__(
        self, layout: LogitFormat, units: Sequence[Unit], shards: Sequence[LabelShard], samples: int
    ) -> None:
        self._layout = layout
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
        """The batch with its targets: (b, width) float32 as `LogitFormat` describes them."""
        assert batch.numbers is not None
        filled = np.empty((len(batch.indices), self._layout.width), dtype=np.float32)
        shard = self._shard[batch.indices]
        for number in np.unique(shard):
            here = shard == number
            rows = rows_of(self._shards[number], self._row[batch.indices[here]], batch.numbers[here])
            filled[here] = targets(rows, self._layout)
        return replace(batch, targets=filled)

    def replay(self, reader: BatchReader, steps: int) -> None:
        """There is nothing to compute again."""

    def flush(self) -> None:
        """There is nothing to write."""

    def close(self) -> None:
        """Let go of the files."""
        self._shards = ()
