"""What depends on the task, in one object that the stages are given."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from distill.methods.supervised import Supervised
from distill.methods.task_oriented import TaskOriented
from distill.models.student import Student, build_student, open_student

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

Method = Callable[["Tensor", "Tensor"], "Tensor"]


@dataclass(frozen=True)
class Task:
    """`build_student(spec, classes, image_size, seed)`; `transfer` methods by name, made from a temperature;
    `supervised` made from label smoothing; `score(outputs, labels)`: what is selected by, the larger the
    better."""

    name: str
    build_student: Callable[[str, tuple[str, ...], int | None, int], Student]
    open_student: Callable[["Path"], Student]
    transfer: dict[str, Callable[[float], Method]]
    supervised: Callable[[float], Method]
    score: Callable[[np.ndarray, np.ndarray], float]


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Share of the n images whose largest logit (n, C) is that of their label (n,)."""
    return float(np.mean(outputs.argmax(axis=1) == labels))


CLASSIFICATION = Task(
    name="classification",
    build_student=build_student,
    open_student=open_student,
    transfer={"task-oriented": TaskOriented},
    supervised=Supervised,
    score=accuracy,
)
