"""What a student that learns from a teacher is fed."""

from collections.abc import Generator
from dataclasses import replace

import numpy as np

from distill.data.batches import Batch, BatchReader
from distill.loop.ledger import Ledger, Stage
from distill.methods.dual_head import with_label_column
from distill.teaching.teaching import Outputs
from transferset.parallel import ordered_map


class Feed:
    """Batches with the teacher's targets, made ahead of the student by other threads, in the order of their
    steps. `labels` (n,) of all samples, -1 for none: a last column of the targets, if given."""

    def __init__(
        self,
        reader: BatchReader,
        outputs: Outputs,
        readers: int,
        end: int,
        labels: np.ndarray | None = None,
    ) -> None:
        self.reader = reader
        self.outputs = outputs
        self.readers = readers
        self.end = end
        self.labels = labels
        self._told: dict[str, Stage] = {}

    def stream(self, step: int) -> Generator[Batch]:
        """From `step` on. What the teacher had computed before is made again if its file was lost. However it
        ends, the images that could not be read are on the disk."""
        try:
            if not self.outputs.found:
                self.outputs.replay(self.reader, step)
            batches = self.reader.stream(step, self.end, self.readers)
            yield from ordered_map(self._fill, batches, workers=1, window=2 if self.readers else 1)
        finally:
            self.reader.reader.flush()

    def flush(self) -> None:
        """What the teacher has said, and which images could not be read, is on the disk."""
        self.outputs.flush()
        self.reader.reader.flush()

    def collect(self, ledger: Ledger) -> None:
        """Add what reading and the teacher have cost since the last call."""
        now = {"data": Stage(self.reader.images, self.reader.seconds), **self.outputs.costs}
        for name, spent in now.items():
            told = self._told.get(name, Stage())
            ledger.add(
                name, spent.images - told.images, spent.seconds - told.seconds, spent.flops - told.flops
            )
        self._told = now

    def _fill(self, batch: Batch) -> Batch:
        filled = self.outputs.fill(batch)
        if self.labels is None or filled.targets is None:
            return filled
        return replace(filled, targets=with_label_column(filled.targets, self.labels[batch.indices]))
