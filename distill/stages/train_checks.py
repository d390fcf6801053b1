"""Which options of `distill train` go together."""

import math
from typing import TYPE_CHECKING

from distill.data.views import augmentation
from distill.methods.transfer import Transfer
from distill.stages.train_options import TrainOptions
from distill.task import Task
from distill.teaching.combined import COMBINE, HEADS
from transferset.errors import UsageError
from transferset.models.spec import parse_spec

if TYPE_CHECKING:
    pass


def check(options: TrainOptions, task: Task) -> Transfer:
    """The method; UsageError for options that don't fit each other."""
    method = task.transfer(
        options.method,
        temperature=options.temperature,
        feature_loss=options.feature_loss,
        feature_weight=options.feature_weight,
    )
    if options.plan.batch_size < method.least_batch:
        raise UsageError(
            f"--batch-size {options.plan.batch_size} with --feature-loss {method.feature_loss}, which"
            " compares the images of a batch",
            hint=f"give at least {method.least_batch}",
        )
    if options.plan.accumulate > 1 and method.least_batch > 1:
        raise UsageError(
            f"--accumulate {options.plan.accumulate} with --feature-loss {method.feature_loss}, which"
            " compares the images of a batch",
            hint="leave it out; a smaller --batch-size takes less memory",
        )
    if options.plan.patience and (options.combine == HEADS or not method.trains_classifier):
        what = f"--combine {HEADS}" if options.combine == HEADS else f"--method {options.method}"
        raise UsageError(f"--patience with {what}: nothing is scored before the end", hint="leave it out")
    if options.metric not in task.scores:
        raise UsageError(
            f"unknown --metric {options.metric!r}", hint=f"one of: {', '.join(sorted(task.scores))}"
        )
    _check_teachers(options, method)
    if options.augment is not None:
        augmentation(options.augment)
    if options.views is not None and options.views < 0:
        raise UsageError(
            f"--views {options.views} must not be negative", hint="0 means new views in every epoch"
        )
    if not 0 <= options.labelled_share < 1:
        raise UsageError(f"--labelled-share {options.labelled_share} must be at least 0 and less than 1")
    return method


def _check_teachers(options: TrainOptions, method: Transfer) -> None:
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
            "--teacher-flip with --labels-from: the teacher's outputs are already stored",
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


def _check_several(options: TrainOptions, method: Transfer) -> None:
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


def _check_labels(options: TrainOptions, method: Transfer) -> None:
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


def _check_features(options: TrainOptions) -> None:
    count = max(len(options.teachers), len(options.stores))
    if count > 1:
        raise UsageError(
            f"--feature-weight with {count} teachers: features of one teacher can be matched",
            hint="give one --teacher, or one --labels-from",
        )


def _check_start(options: TrainOptions) -> None:
    if (options.student is None) == (options.from_run is None):
        raise UsageError(
            "train starts from a --student or continues --from a run", hint="give exactly one of the two"
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
            hint="leave them out, or continue --from a run or from a student with weights",
        )
