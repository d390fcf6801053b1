"""The teacher's logits for the views of one run, each computed once."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from distill.data.batches import Batch, BatchReader
from transferset.errors import DataError, NumericError
from transferset.writes import atomic_file


class Labeller(Protocol):
    """What is needed of a teacher: uint8 (n, H, W, 3) views to calibrated logits (n, C) float32."""

    @property
    def flops_per_image(self) -> float:
        """Cost of one image."""

    def logits(self, batch: np.ndarray) -> np.ndarray:
        """Logits, already divided by the teacher's fitted temperature."""


class TeacherOutputs:
    """Fills `targets` of batches, which must come in the order of their steps.

    With K repeating views (`path` given) the logits of the first K epochs go to a file, row `round * n +
    place` of an npy array (K * n, C) float32 (sparse until it is full), and from epoch K on come out of it:
    the teacher costs nothing then. The file is part of the run: a resumed run reads what was computed before
    the kill, so its weights are those of an undisturbed run even where the last bit of a teacher's output
    depends on what else is in its batch. Rows are written with pwrite, so that a full disk is an error and
    not a crash; `flush` before a checkpoint.
    """

    def __init__(
        self, teacher: Labeller, classes: int, *, path: Path | None, samples: int = 0, views: int = 0
    ) -> None:
        self._teacher = teacher
        self._classes = classes
        self._samples = samples
        self._stored: np.ndarray | None = None
        self._file = -1
        self.flops = teacher.flops_per_image
        self.seconds = 0.0
        self.images = 0
        self.found = path is None or path.exists()
        if path is not None:
            if not self.found:
                _create(path, (views * samples, classes))
            self._stored = _open(path, (views * samples, classes))
            self._start = path.stat().st_size - self._stored.nbytes
            self._file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)

    def fill(self, batch: Batch) -> Batch:
        """The batch with its targets: logits of the teacher, (b, C) float32."""
        targets = np.empty((len(batch.places), self._classes), dtype=np.float32)
        rows = batch.rounds * self._samples + batch.places
        if batch.teacher_images is not None:
            targets[batch.fresh] = self._ask(batch)
            if self._stored is not None:
                for row, logits in zip(rows[batch.fresh], targets[batch.fresh], strict=True):
                    self._write(logits.tobytes(), self._start + int(row) * logits.nbytes)
        if self._stored is not None and not batch.fresh.all():
            targets[~batch.fresh] = self._stored[rows[~batch.fresh]]
        return replace(batch, targets=targets, teacher_images=None)

    def _ask(self, batch: Batch) -> np.ndarray:
        assert batch.teacher_images is not None
        start = time.perf_counter()
        logits = self._teacher.logits(batch.teacher_images)
        self.seconds += time.perf_counter() - start
        self.images += len(logits)
        if not np.isfinite(logits).all():
            raise NumericError(
                f"the teacher's logits for the batch of step {batch.step} are not finite",
                hint="run the teacher in float32 (`--runtime eager`), or adapt it again",
            )
        return logits

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


def _create(path: Path, shape: tuple[int, int]) -> None:
    """An npy file of this shape whose rows are holes."""
    with atomic_file(path) as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + shape[0] * shape[1] * 4)


def _open(path: Path, shape: tuple[int, int]) -> np.ndarray:
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} is damaged: {error}", hint="remove the run's directory and train again"
        ) from error
    if stored.shape != shape or stored.dtype != np.float32:
        raise DataError(
            f"{path} holds {stored.dtype} {stored.shape} and not float32 {shape}", hint="see config.json"
        )
    array: np.ndarray = stored
    return array
