"""What the teacher says of the views of one run, each computed once."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from distill.data.batches import Batch, BatchReader
from distill.loop.ledger import Stage
from transferset.errors import DataError, NumericError
from transferset.writes import atomic_file


@dataclass(frozen=True)
class Answers:
    """What is asked of a teacher: `ask` takes uint8 (n, H, W, 3) views and gives (n, width) float32, called
    `name` in errors; an image costs `flops_per_image`. `dtype`: what they are rounded to, and kept as."""

    name: str
    width: int
    ask: Callable[[np.ndarray], np.ndarray]
    flops_per_image: float
    dtype: Literal["<f4", "<f2"] = "<f4"


class TeacherOutputs:
    """Fills `targets` of batches, which must come in the order of their steps, with the answers of teacher
    `number` of those that the batches have images for.

    With K repeating views (`path` given) the answers of the first K epochs go to a file, row `round * n +
    place` of an npy array (K * n, width) of their dtype (sparse until it is full), and from epoch K on come
    out of it: the teacher costs nothing then. The file is part of the run: a resumed run reads what was
    computed before the kill, so its weights are those of an undisturbed run even where the last bit of a
    teacher's output depends on what else is in its batch. Rows are written with pwrite, so that a full disk
    is an error and not a crash; `flush` before a checkpoint.
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
        self._stored: np.ndarray | None = None
        self._file = -1
        self.flops = answers.flops_per_image
        self.seconds = 0.0
        self.images = 0
        self.found = path is None or path.exists()
        if path is not None:
            if not self.found:
                _create(path, (views * samples, answers.width), answers.dtype)
            self._stored = _open(path, (views * samples, answers.width), answers.dtype)
            self._start = path.stat().st_size - self._stored.nbytes
            self._file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)

    @property
    def costs(self) -> dict[str, Stage]:
        """What the teacher has cost, as the ledger calls it."""
        return {"teacher": Stage(self.images, self.seconds, self.images * self.flops)}

    def fill(self, batch: Batch) -> Batch:
        """The batch with its targets: the answers of the teacher, (b, width) float32."""
        targets = np.empty((len(batch.places), self._answers.width), dtype=np.float32)
        rows = batch.rounds * self._samples + batch.places
        if batch.fresh.any():
            answers = self._ask(batch)
            targets[batch.fresh] = answers
            if self._stored is not None:
                for row, answer in zip(rows[batch.fresh], answers, strict=True):
                    self._write(answer.tobytes(), self._start + int(row) * answer.nbytes)
        if self._stored is not None and not batch.fresh.all():
            targets[~batch.fresh] = self._stored[rows[~batch.fresh]]
        return replace(batch, targets=targets, teacher_images=())

    def _ask(self, batch: Batch) -> np.ndarray:
        start = time.perf_counter()
        with np.errstate(over="ignore"):  # told below
            answers = self._answers.ask(batch.teacher_images[self._number]).astype(self._answers.dtype)
        self.seconds += time.perf_counter() - start
        self.images += len(answers)
        if not np.isfinite(answers).all():
            raise NumericError(
                f"the teacher's {self._answers.name} for the batch of step {batch.step} are not finite",
                hint="run the teacher in float32 (`--runtime eager`), or adapt it again",
            )
        return answers

    def _write(self, data: bytes, offset: int) -> None:
        while data:
            written = os.pwrite(self._file, data, offset)
            data, offset = data[written:], offset + written

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
        if self._file >= 0:
            os.fsync(self._file)

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._stored = None


def _create(path: Path, shape: tuple[int, int], dtype: str) -> None:
    """An npy file of this shape whose rows are holes."""
    with atomic_file(path) as file:
        np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + shape[0] * shape[1] * np.dtype(dtype).itemsize)


def _open(path: Path, shape: tuple[int, int], dtype: str) -> np.ndarray:
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} is damaged: {error}", hint="remove the run's directory and train again"
        ) from error
    if stored.shape != shape or stored.dtype != np.dtype(dtype):
        raise DataError(
            f"{path} holds {stored.dtype} {stored.shape} and not {np.dtype(dtype)} {shape}",
            hint="see config.json",
        )
    array: np.ndarray = stored
    return array
