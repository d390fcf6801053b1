"""The heads of a student of `distill train`: one, one for each of several teachers, or one for the labels
beside the teacher's; and what becomes of them at the end."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from distill.loop.checkpoints import write_tensors
from distill.loop.run_directory import CONFIG, REPORT
from distill.models.joint_heads import Head, only_head, side_by_side
from distill.models.joint_start import HEADS as HEADS_FOLDER
from distill.models.student import MODEL, Student
from distill.stages.result import StudentReport, write_student_facts
from transferset.writes import read_json, write_json

if TYPE_CHECKING:
    from torch import Tensor

    from distill.stages.train_options import TrainOptions

LABELS_HEAD = "labels"


def student_heads(options: "TrainOptions", taught: tuple[Head, ...]) -> tuple[Head, ...]:
    """What the teachers teach, and beside it, with --label-weight, the head that learns the labels, last."""
    if not options.label_weight:
        return taught
    return side_by_side([*taught, Head(LABELS_HEAD, taught[0].classes)])


def write_heads(
    out: Path,
    student: Student,
    weights: dict[str, "Tensor"],
    heads: tuple[Head, ...],
    scored: Head,
    report: StudentReport,
) -> None:
    """A student for each head in `out/heads/NAME`, each a finished run for the other commands, its report
    last. The score is that of the head that was `scored`."""
    config = read_json(out / CONFIG)
    for head in heads:
        folder = out / HEADS_FOLDER / head.name
        folder.mkdir(parents=True, exist_ok=True)
        own = replace(report, out=str(folder), head=head.name)
        if head != scored:
            own = replace(own, score=None, scored_on=None, interval=None)
        write_json(folder / CONFIG, {**config, "head": head.name})
        write_student_facts(folder, replace(student, classes=head.classes))
        write_tensors(folder / MODEL, only_head(student, weights, head))
        write_json(folder / REPORT, asdict(own))
