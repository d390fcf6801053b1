"""What depends on the task, in one object that the stages are given."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from distill.methods.supervised import Supervised
from distill.methods.transfer import Loss, Transfer, transfer_method
from distill.models.student import Student, build_student, open_start, open_student

if TYPE_CHECKING:
    from pathlib import Path

TOP1, BALANCED = "top1", "balanced_accuracy"
SCORE_NAMES = {TOP1: "top-1", BALANCED: "balanced accuracy"}
"""What people are told."""


@dataclass(frozen=True)
class Task:
    """`build_student(spec, classes, image_size, seed)`; `open_student(run)`: the final student of a run, and
    `open_start(run)`: the one that finetuning starts from; `scores` by name, of outputs and labels: what is
    selected by, the larger the better."""

    name: str
    build_student: Callable[[str, tuple[str, ...], int | None, int], Student]
    open_student: Callable[["Path"], Student]
    open_start: Callable[["Path"], Student]
    transfer: Callable[..., Transfer]
    supervised: Callable[..., Loss]
    scores: dict[str, Callable[[np.ndarray, np.ndarray], float]]


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Share of the n images whose largest logit (n, C) is that of their label (n,)."""
    return float(np.mean(outputs.argmax(axis=1) == labels))


def balanced_accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the classes that `labels` has of the share of their images that is told right."""
    right = outputs.argmax(axis=1) == labels
    return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


def weighted_accuracy(outputs: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    """Share of what the images count, `weights` (n,), that is told right."""
    return float(np.average(outputs.argmax(axis=1) == labels, weights=weights))


CLASSIFICATION = Task(
    name="classification",
    build_student=build_student,
    open_student=open_student,
    open_start=open_start,
    transfer=transfer_method,
    supervised=Supervised,
    scores={TOP1: accuracy, BALANCED: balanced_accuracy},
)
