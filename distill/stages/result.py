"""What training stages share at their end: the score that selects, the final student's files, the report."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.data.labelled_images import LabelledImages
from distill.loop.checkpoints import write_tensors
from distill.loop.ledger import Ledger
from distill.loop.run_directory import REPORT, RESTORE
from distill.models.flops import flops_per_image
from distill.models.student import LABELS, MODEL, PREPROCESSING, TRAINED, Student, predict
from distill.task import SCORE_NAMES, TOP1, Task
from transferset.errors import DataError
from transferset.writes import write_json

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class StudentReport:
    """The result of `distill train` or `distill finetune`, as `report.json` holds it.

    `score` is the validation score (None: there was nothing to score on) of the weights of step `chosen_step`
    that were kept, by `metric`; `interval` its 95 % interval (None: not known); `scored_on` says what it was
    measured on. `dropped` counts samples that could not be used. `costs`: images, seconds and FLOPs of every
    stage. `classifier`: `trained`, a `linear probe` on frozen features, or `none` yet. `head`: which of
    several heads the student has.
    """

    out: str
    steps: int
    images_seen: int
    chosen_step: int
    score: float | None
    scored_on: str | None
    interval: tuple[float, float] | None
    skipped_steps: int
    dropped: int
    costs: dict[str, Any]
    metric: str = TOP1
    classifier: str = TRAINED
    head: str | None = None


def scorer(
    task: Task, student: Student, images: LabelledImages, ledger: Ledger, metric: str = TOP1
) -> Callable[["nn.Module"], float]:
    """The score of a module with the student's architecture on labelled images."""
    scores = head_scorer(task, student, images, ledger, [slice(None)], metric)
    return lambda module: scores(module)[0]


def head_scorer(
    task: Task,
    student: Student,
    images: LabelledImages,
    ledger: Ledger,
    heads: Sequence[slice],
    metric: str = TOP1,
) -> Callable[["nn.Module"], list[float]]:
    """The score of each of several heads, given as their columns of the outputs."""
    flops = functools.cache(
        lambda: flops_per_image(student.module, student.preprocessing.size, backward=False)
    )

    def scores(module: "nn.Module") -> list[float]:
        with ledger.timed("evaluate", len(images), len(images) * flops()):
            rendered = images.rendered(student.preprocessing)
            outputs = np.concatenate([predict(student, module, batch) for batch in rendered])
            return [task.scores[metric](outputs[:, head], images.labels) for head in heads]

    return scores


def write_student_facts(out: Path, student: Student) -> None:
    """Classes and preprocessing, known from the start."""
    write_json(out / LABELS, list(student.classes))
    write_json(out / PREPROCESSING, student.preprocessing.to_dict())


def finish(out: Path, weights: dict[str, "Tensor"], report: StudentReport) -> StudentReport:
    """Write the final student, then the report, which marks the run as done."""
    write_tensors(out / MODEL, weights)
    write_json(out / REPORT, asdict(report))
    return report


def report_from_json(values: dict[str, Any]) -> StudentReport:
    """The inverse of what `finish` writes; DataError where it was not `finish` that wrote it."""
    try:
        interval = values["interval"]
        report = StudentReport(**{**values, "interval": tuple(interval) if interval else None})
        if report.metric not in SCORE_NAMES:
            raise ValueError(f"metric {report.metric}")
        return report
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{REPORT} is not that of a student: {error}", hint=RESTORE) from error
