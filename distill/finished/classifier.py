"""Any finished model of this package, opened to be asked about images."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill.export.format import check_files, is_export, locate
from distill.export.onnx_graph import open_graph
from distill.loop.run_directory import read_config
from distill.models.student import (
    LABELS,
    MODEL,
    PREPROCESSING,
    open_student,
    read_classes,
    read_preprocessing,
)
from distill.models.teacher import open_teacher
from transferset.models.preprocessing import Preprocessing


@dataclass(frozen=True, eq=False)
class Classifier:
    """`logits(batch)`: uint8 (n, size, size, 3) images as `preprocessing` renders them, n <= batch_size, or,
    where it is for `whole` ones, n arrays (h, w, 3) as they were decoded, to logits (n, C) float32. `kind`:
    `teacher`, `student` or `export`."""

    kind: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    logits: Callable[[np.ndarray], np.ndarray]
    whole: bool = False


def open_classifier(
    model: Path, *, runtime: str, precision: str, batch_size: int, device: str, threads: int | None
) -> Classifier:
    """A teacher (`runtime` and `precision` are for it), the final student of a run, an export, or an ONNX
    graph in an export (its file; on the CPU, whatever `device`).

    Raises DataError where it is none of these, damaged or not finished, UsageError for a graph without the
    extra `export`.
    """
    directory, name = locate(model)
    exported = is_export(directory)
    if exported:
        check_files(directory, (name, LABELS, PREPROCESSING))
    if name != MODEL:
        preprocessing = read_preprocessing(directory)
        graph = open_graph(directory / name, preprocessing, threads)
        return Classifier("export", read_classes(directory), preprocessing, graph.logits, graph.whole)
    if read_config(directory).get("command") == "adapt":
        teacher = open_teacher(
            directory,
            runtime=runtime,
            precision=precision,
            batch_size=batch_size,
            device=device,
            threads=threads,
        )
        return Classifier("teacher", teacher.classes, teacher.preprocessing, teacher.logits)
    student = open_student(directory)
    student.module.to(device)

    def logits_of_student(batch: np.ndarray) -> np.ndarray:
        return student.logits(batch, batch_size)

    kind = "export" if exported else "student"
    return Classifier(kind, student.classes, student.preprocessing, logits_of_student)
