"""What `distill finetune` is given, opened and checked before its first step, and how config.json records
it."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from distill.data.adaptation_sets import refuse_single_class
from distill.data.labelled_images import LabelledImages, read_labelled_images
from distill.data.views import augmentation
from distill.loop.execution import Execution
from distill.loop.plan import Plan
from distill.loop.recipe import HeadFirst, Recipe
from distill.loop.run_directory import path_from
from distill.models.head_selection import check_foldable, lacks_most_classes
from distill.models.student import Student, reset_classifier
from distill.splits.checked import CheckedSet, check_splits
from distill.stages.probe import check_probe_fits
from distill.task import BALANCED, TOP1, Task
from transferset.console import say
from transferset.errors import DataError, UsageError
from transferset.labelled import LabelledSet, load_labelled
from transferset.models.spec import parse_spec
from transferset.models.weights import weights_sha256

# A transferred student knows the task already: gently. Anything else: as long as few labels take.
FROM_RUN_EPOCHS, FROM_RUN_LR = 30.0, 3e-4
BASELINE_EPOCHS, BASELINE_LR = 200.0, 2e-3


@dataclass(frozen=True)
class FinetuneOptions:
    """What `distill finetune` is given: labelled images, and a run to start `from_run` or a `student` spec.

    With a val split the best of all scored students is kept, the one it starts from among them. Without one,
    `folds` stratified folds decide how many steps help (possibly none), the only image of a class never being
    held out; 0 folds: the whole schedule, unproven. Classes and sizes are those of the run; a run without a
    classifier, which has matched features, takes the classes of the data and starts with a linear probe on
    them.

    `head_epochs`: train the classifier alone first, for that many passes, on top of the plan.
    `backbone_lr_scale`: of the learning rate, for all but the classifier. `retention`: weight of the
    divergence from what the student of `from_run` says of the same views. `class_balanced`: every class
    counts the same, in the loss and where the best is chosen. `drop_near_copies`: leave out training images
    that look like val or test images (exact copies go in any case).
    """

    data: Path
    out: Path
    from_run: Path | None = None
    student: str | None = None
    image_size: int | None = None
    plan: Plan = field(default_factory=Plan)
    augment: str = "standard"
    label_smoothing: float = 0.1
    folds: int = 5
    head_epochs: float = 0.0
    backbone_lr_scale: float = 1.0
    retention: float = 0.0
    class_balanced: bool = False
    drop_near_copies: bool = False
    seed: int = 0
    execution: Execution = field(default_factory=Execution)

    @property
    def metric(self) -> str:
        """What the best is chosen by."""
        return BALANCED if self.class_balanced else TOP1


@dataclass(frozen=True)
class Inputs:
    """Everything that was opened before the first step. `from_sha256`: hash of the weights of the run that it
    starts from, as they are there."""

    student: Student
    train: LabelledImages
    val: LabelledImages | None
    recipe: Recipe
    checked: CheckedSet
    from_sha256: str | None = None


def check(options: FinetuneOptions) -> None:
    """UsageError for options that don't fit each other."""
    if (options.from_run is None) == (options.student is None):
        raise UsageError(
            "finetune starts --from a run or from a --student", hint="give exactly one of the two"
        )
    if options.from_run is not None and options.image_size is not None:
        raise UsageError("--image-size with --from: the size is the run's", hint="leave it out")
    if options.folds < 0 or options.folds == 1:
        raise UsageError(f"--folds {options.folds} must be 0 or at least 2")
    if not 0 <= options.label_smoothing < 1:
        raise UsageError(f"--label-smoothing {options.label_smoothing} must be at least 0 and less than 1")
    augmentation(options.augment)
    _check_gentleness(options)


def _check_gentleness(options: FinetuneOptions) -> None:
    if not 0 <= options.head_epochs < math.inf:
        raise UsageError(f"--head-epochs {options.head_epochs} must not be negative or infinite")
    if not 0 < options.backbone_lr_scale <= 1:
        raise UsageError(f"--backbone-lr-scale {options.backbone_lr_scale} must be above 0 and at most 1")
    if not 0 <= options.retention < math.inf:
        raise UsageError(f"--retention {options.retention} must not be negative or infinite")
    if options.retention and options.from_run is None:
        raise UsageError("--retention without --from: there is nothing to retain", hint="leave it out")
    gentle = options.head_epochs > 0 or options.backbone_lr_scale < 1
    if gentle and options.student is not None and parse_spec(options.student).is_random:
        raise UsageError(
            f"--head-epochs and --backbone-lr-scale spare what a backbone knows: {options.student} is random",
            hint="leave them out, or start --from a run or from a student with weights",
        )


def open_inputs(options: FinetuneOptions, task: Task, resolved: dict[str, Any]) -> Inputs:
    """Open everything, on what was `resolved` for the machine; raises as `finetune` does."""
    labelled = load_labelled(options.data)
    if not labelled.classes:
        raise UsageError(
            f"{options.data} has no labels", hint="sort the images into one folder for each class"
        )
    checked = check_splits(labelled, drop_near=options.drop_near_copies, workers=options.execution.workers)
    labelled = checked.labelled
    student, from_sha256 = _start(options, task, labelled)
    student.module.to(resolved["device"])
    training = labelled.split("train") if labelled.has_splits else labelled
    if not training.images:
        raise DataError(
            f"{options.data} has no train split", hint="it has: " + ", ".join(sorted(labelled.splits))
        )
    if options.from_run is None:
        refuse_single_class(options.data, training.classes)
    lacking = sorted(set(student.classes) - set(training.classes))
    if lacking and options.from_run is not None:
        raise DataError(
            f"{options.data} lacks training images of {len(lacking)} of {len(student.classes)} classes of"
            f" the student of {options.from_run}: {', '.join(lacking[:3])}",
            hint="finetuning without them would unlearn them, or never learn them",
        )
    if lacking:
        say(f"no training images of class {', '.join(lacking[:8])}: it will not be learnt")
    train, val = _read(options, student, training, "train"), None
    if labelled.split("val").images:
        val = _read(options, student, labelled.split("val"), "val")
        if (why := lacks_most_classes(val.labels, len(student.classes))) is not None:
            instead = "cross-validation does" if options.folds else "all steps are kept"
            say(f"val does not choose the step, because {why}: {instead}")
            val = None
    if options.plan.patience and val is None:
        raise UsageError(
            "--patience without a val split that chooses: folds choose the step, of all that are scored",
            hint="leave it out",
        )
    if val is None and options.folds:
        check_foldable(train.labels)
    start = (FROM_RUN_EPOCHS, FROM_RUN_LR) if options.from_run else (BASELINE_EPOCHS, BASELINE_LR)
    recipe = options.plan.recipe(len(train), *start, options.seed)
    if options.head_epochs or options.backbone_lr_scale < 1:
        first = math.ceil(options.head_epochs * len(train) / recipe.batch_size)
        head = HeadFirst(first, options.backbone_lr_scale)
        recipe = replace(recipe, steps=first + recipe.steps, head=head)
    return Inputs(student, train, val, recipe, checked, from_sha256)


def _start(options: FinetuneOptions, task: Task, labelled: LabelledSet) -> tuple[Student, str | None]:
    if options.from_run is not None:
        found = task.open_start(options.from_run)
        before = weights_sha256(found.module)
        return _with_classes(found, labelled.classes, options.seed), before
    assert options.student is not None
    return task.build_student(options.student, labelled.classes, options.image_size, options.seed), None


def _with_classes(student: Student, classes: tuple[str, ...], seed: int) -> Student:
    """A student without classifier takes the classes."""
    if student.has_classifier:
        return student
    reset_classifier(student.module, len(classes), seed)
    check_probe_fits(student)
    return replace(student, classes=classes)


def _read(options: FinetuneOptions, student: Student, images: LabelledSet, split: str) -> LabelledImages:
    return read_labelled_images(
        images.images,
        student.classes,
        decode_size=student.preprocessing.resize_short_side,
        cache_bytes=(options.execution.cache_mb << 20) // 2,
        what=f"{split} images of {options.data}",
    )


def config(options: FinetuneOptions, inputs: Inputs, resolved: dict[str, Any]) -> dict[str, Any]:
    """config.json: `arguments` and `inputs` are what a resumed run must agree with."""
    recipe, free = inputs.recipe.to_dict()
    return {
        "command": "finetune",
        "arguments": {
            **recipe,
            "image_size": inputs.student.preprocessing.size,
            "augment": options.augment,
            "label_smoothing": options.label_smoothing,
            "folds": None if inputs.val else options.folds,
            "student": options.student,
            "retention": options.retention or None,
            "class_balanced": options.class_balanced or None,
        },
        "inputs": {
            "start_sha256": weights_sha256(inputs.student.module),
            "data_sha256": inputs.checked.fingerprint,
            "train_sha256": inputs.train.fingerprint,
            "val_sha256": inputs.val.fingerprint if inputs.val else None,
        },
        "resolved": {**resolved, **free},
        "student": {
            "spec": inputs.student.spec,
            "from": path_from(options.out, options.from_run) if options.from_run else None,
            "from_sha256": inputs.from_sha256,
        },
        "augmentation": augmentation(options.augment).to_dict(),
    }
