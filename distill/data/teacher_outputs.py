"""What the teacher says of the views of one run, each computed once."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from distill.data.batches import Batch, BatchReader
from distill.data.kept_rows import KeptRows
from distill.loop.ledger import Stage
from transferset.errors import NumericError


@dataclass(frozen=True)
class Answers:
    """What is asked of a teacher: `ask` takes uint8 (n, H, W, 3) views and gives (n, width) float32, called
    `name` in errors; an image costs `flops_per_image`. The last `halved` columns need no more precision than
    float16 has, and are rounded to it."""

    name: str
    width: int
    ask: Callable[[np.ndarray], np.ndarray]
    flops_per_image: float
    halved: int = 0

    @property
    def whole(self) -> int:
        """Columns that keep the precision of float32."""
        return self.width - self.halved

    @property
    def bytes_per_view(self) -> int:
        """What it takes to keep them."""
        return 4 * self.whole + 2 * self.halved


class TeacherOutputs:
    """Fills `targets` of batches, which must come in the order of their steps, with the answers of teacher
    `number` of those that the batches have images for.

    With K repeating views (`path` given) the answers of the first K epochs go to a file, row `round * n +
    place` of an npy array (K * n, width) float32 (sparse until it is full), and from epoch K on come out of
    it: the teacher costs nothing then. The file is part of the run: a resumed run reads what was computed
    before the kill, so its weights are those of an undisturbed run even where the last bit of a teacher's
    output depends on what else is in its batch. Halved columns have a float16 file of their own beside it
    (`-halved` in its name), and are the same the first time, when they do not come out of it. `flush` before
    a checkpoint.
    """

    def __init__(
        self,
        answers: Answers,
        *,
        path: Path | None,
        samples: int = 0,
        views: int = 0,
        number: int = 0,
    ) -> None:
        self._answers = answers
        self._number = number
        self._samples = samples
        self._kept: tuple[KeptRows, ...] = ()
        self.flops = answers.flops_per_image
        self.seconds = 0.0
        self.images = 0
        if path is not None:
            self._kept = (KeptRows(path, (views * samples, answers.whole), "<f4"),)
            if answers.halved:
                halved = path.with_stem(f"{path.stem}-halved")
                self._kept += (KeptRows(halved, (views * samples, answers.halved), "<f2"),)
        self.found = all(kept.found for kept in self._kept)

    @property
    def costs(self) -> dict[str, Stage]:
        """What the teacher has cost, as the ledger calls it."""
        return {"teacher": Stage(self.images, self.seconds, self.images * self.flops)}

    def fill(self, batch: Batch) -> Batch:
        """The batch with its targets: the answers of the teacher, (b, width) float32."""
        targets = np.empty((len(batch.places), self._answers.width), dtype=np.float32)
        rows = batch.rounds * self._samples + batch.places
        if batch.fresh.any():
            targets[batch.fresh] = self._ask(batch)
            parts = np.split(targets[batch.fresh], [self._answers.whole], axis=1)
            for kept, part in zip(self._kept, parts):
                kept.write(rows[batch.fresh], part)
        if self._kept and not batch.fresh.all():
            stored = [kept.read(rows[~batch.fresh]) for kept in self._kept]
            targets[~batch.fresh] = np.concatenate(stored, axis=1)
        return replace(batch, targets=targets, teacher_images=())

    def _ask(self, batch: Batch) -> np.ndarray:
        start = time.perf_counter()
        answers = self._rounded(self._answers.ask(batch.teacher_images[self._number]))
        self.seconds += time.perf_counter() - start
        self.images += len(answers)
        if not np.isfinite(answers).all():
            raise NumericError(
                f"the teacher's {self._answers.name} for the batch of step {batch.step} are not finite",
                hint="a new --out with --precision fp32 may help; else adapt the teacher again",
            )
        return answers

    def _rounded(self, answers: np.ndarray) -> np.ndarray:
        """As they are kept; what is too large for float16 becomes infinite."""
        if not self._answers.halved:
            return answers
        whole, halved = np.split(answers, [self._answers.whole], axis=1)
        with np.errstate(over="ignore"):
            return np.concatenate([whole, halved.astype(np.float16)], axis=1)

    def replay(self, reader: BatchReader, steps: int) -> None:
        """Compute again what the first `steps` steps had computed, in the same batches: after the file was
        lost."""
        for step in range(steps):
            batch = reader.read(step)
            if not batch.fresh.any():
                return
            self.fill(batch)

    def flush(self) -> None:
        """Everything that was computed is on the disk."""
        for kept in self._kept:
            kept.flush()

    def close(self) -> None:
        """Close the files."""
        for kept in self._kept:
            kept.close()
        self._kept = ()
