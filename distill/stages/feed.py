"""What a student that learns from a teacher is fed."""

from collections.abc import Generator

from distill.data.batches import Batch, BatchReader
from distill.loop.ledger import Ledger
from distill.stages.teaching import Outputs
from transferset.parallel import ordered_map


class Feed:
    """Batches with the teacher's targets, made ahead of the student by other threads, in the order of their
    steps."""

    def __init__(self, reader: BatchReader, outputs: Outputs, readers: int, end: int) -> None:
        self.reader = reader
        self.outputs = outputs
        self.readers = readers
        self.end = end
        self._told = {"data": (0, 0.0), "teacher": (0, 0.0)}

    def stream(self, step: int) -> Generator[Batch]:
        """From `step` on. What the teacher had computed before is made again if its file was lost."""
        if not self.outputs.found:
            self.outputs.replay(self.reader, step)
        batches = self.reader.stream(step, self.end, self.readers)
        yield from ordered_map(self.outputs.fill, batches, workers=1, window=2 if self.readers else 1)

    def collect(self, ledger: Ledger) -> None:
        """Add what reading and the teacher have cost since the last call."""
        now = {
            "data": (self.reader.images, self.reader.seconds),
            "teacher": (self.outputs.images, self.outputs.seconds),
        }
        for stage, (images, seconds) in now.items():
            before = self._told[stage]
            flops = (images - before[0]) * self.outputs.flops if stage == "teacher" else 0.0
            ledger.add(stage, images - before[0], seconds - before[1], flops)
        self._told = now
