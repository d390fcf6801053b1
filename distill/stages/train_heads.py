"""The heads of a student of `distill train`: one, one for each of several teachers, or one for the labels
beside the teacher's; which options go together; and what becomes of the heads at the end."""

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.loop.checkpoints import write_tensors
from distill.loop.run_directory import CONFIG, REPORT
from distill.methods.transfer import Transfer
from distill.models.joint_heads import Head, only_head, side_by_side
from distill.models.joint_start import HEADS as HEADS_FOLDER
from distill.models.student import MODEL, Student
from distill.stages.combined_teaching import COMBINE, HEADS
from distill.stages.result import StudentReport, write_student_facts
from transferset.errors import UsageError
from transferset.models.spec import parse_spec
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


def check_teachers(options: "TrainOptions", method: Transfer) -> None:
    """UsageError where teachers, heads and start do not go together."""
    if not options.teachers and not options.stores:
        raise UsageError(
            "neither --teacher nor --labels-from was given",
            hint="give the directory that distill adapt wrote, or a store of distill label",
        )
    if options.teachers and options.stores and len(options.teachers) + len(options.stores) > 2:
        raise UsageError("several teachers with --labels-from", hint="give the teachers, or their stores")
    _check_several(options, method)
    _check_labels(options, method)
    if options.teacher_flip and options.stores:
        raise UsageError(
            "--teacher-flip with --labels-from: the teacher has looked already",
            hint="leave it out; what distill label --teacher-flip stored is averaged over mirror images",
        )
    if method.feature_weight:
        _check_features(options)
    if options.teacher_flip and method.output != "logits":
        raise UsageError("--teacher-flip averages probabilities, and this method has none")
    _check_start(options)
    if method.output == "patches" and (options.head_epochs or options.backbone_lr_scale < 1):
        raise UsageError(
            "--head-epochs and --backbone-lr-scale with --feature-loss patches, which has no head",
            hint="leave them out",
        )


def _check_several(options: "TrainOptions", method: Transfer) -> None:
    count = max(len(options.teachers), len(options.stores))
    if options.combine not in COMBINE:
        raise UsageError(f"unknown --combine {options.combine!r}", hint=f"one of: {', '.join(COMBINE)}")
    if options.teacher_weights and len(options.teacher_weights) != count:
        raise UsageError(
            f"{len(options.teacher_weights)} --teacher-weight for {count} teachers",
            hint="give one for each, in the order of the teachers, or none",
        )
    if not all(0 < weight < math.inf for weight in options.teacher_weights):
        raise UsageError("a --teacher-weight must be positive and finite")
    if count > 1 and method.output != "logits":
        raise UsageError(
            f"{count} teachers with --method {options.method}: features of one teacher can be matched",
            hint="give one --teacher, or another --method",
        )
    if count == 1 and options.combine == HEADS:
        raise UsageError(f"--combine {HEADS} with one teacher", hint="give --teacher twice or more")


def _check_labels(options: "TrainOptions", method: Transfer) -> None:
    if not 0 <= options.label_weight < math.inf:
        raise UsageError(f"--label-weight {options.label_weight} must not be negative or infinite")
    if not options.label_weight:
        return
    if options.data is None or not options.labelled_share:
        raise UsageError(
            "--label-weight without labelled images in the training",
            hint="give --data, and a --labelled-share above 0",
        )
    if method.output != "logits":
        raise UsageError(
            f"--label-weight with --method {options.method}, whose classifier is fitted on the labels anyway",
            hint="leave it out",
        )
    if options.combine == HEADS:
        raise UsageError(f"--label-weight with --combine {HEADS}", hint="finetune on the labels afterwards")


def _check_features(options: "TrainOptions") -> None:
    count = max(len(options.teachers), len(options.stores))
    if count > 1:
        raise UsageError(
            f"--feature-weight with {count} teachers: features of one teacher can be matched",
            hint="give one --teacher, or one --labels-from",
        )


def _check_start(options: "TrainOptions") -> None:
    if (options.student is None) == (options.from_run is None):
        raise UsageError(
            "train starts from a --student or goes on --from a run", hint="give exactly one of the two"
        )
    if options.from_run is not None and options.image_size is not None:
        raise UsageError("--image-size with --from: the size is the run's", hint="leave it out")
    if not 0 <= options.head_epochs < math.inf:
        raise UsageError(f"--head-epochs {options.head_epochs} must not be negative or infinite")
    if not 0 < options.backbone_lr_scale <= 1:
        raise UsageError(f"--backbone-lr-scale {options.backbone_lr_scale} must be above 0 and at most 1")
    gentle = options.head_epochs > 0 or options.backbone_lr_scale < 1
    if gentle and options.student is not None and parse_spec(options.student).is_random:
        raise UsageError(
            f"--head-epochs and --backbone-lr-scale spare what a backbone knows: {options.student} is random",
            hint="leave them out, or go on --from a run or from a student with weights",
        )


def extended_arguments(options: "TrainOptions") -> dict[str, Any]:
    """What config.json says of these options; None where a run goes as it did before there were any."""
    several = max(len(options.teachers), len(options.stores)) > 1
    return {
        "label_weight": options.label_weight or None,
        "combine": options.combine if several else None,
        "teacher_weights": list(options.teacher_weights) or None,
        "teacher_flip": options.teacher_flip or None,
        "feature_weight": options.feature_weight or None,
    }


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
