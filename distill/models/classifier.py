"""Any finished model of this package, opened to be asked about images."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill.loop.run_directory import read_config
from distill.models.student import open_student
from distill.models.teacher import open_teacher
from transferset.models.preprocessing import Preprocessing


@dataclass(frozen=True, eq=False)
class Classifier:
    """`logits(batch)`: uint8 (n, size, size, 3) images as `preprocessing` renders them, n <= batch_size, to
    logits (n, C) float32. `kind`: `teacher` or `student`."""

    kind: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    logits: Callable[[np.ndarray], np.ndarray]


def open_classifier(
    directory: Path, *, runtime: str, batch_size: int, device: str, threads: int | None
) -> Classifier:
    """A teacher (`runtime` applies) or the final student of a run. Raises DataError where the directory is
    neither, or not finished."""
    if read_config(directory).get("command") == "adapt":
        teacher = open_teacher(
            directory, runtime=runtime, batch_size=batch_size, device=device, threads=threads
        )
        return Classifier("teacher", teacher.classes, teacher.preprocessing, teacher.logits)
    student = open_student(directory)
    student.module.to(device)

    def logits(batch: np.ndarray) -> np.ndarray:
        return student.logits(batch, batch_size)

    return Classifier("student", student.classes, student.preprocessing, logits)
