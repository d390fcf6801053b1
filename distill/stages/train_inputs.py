"""What `distill train` is given, opened, and how config.json records it."""

import hashlib
import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from distill.data.labelled_images import LabelledImages, read_labelled_images
from distill.data.mixture import Mixture, mix
from distill.data.origins import origins
from distill.data.samples import Samples
from distill.data.transfer_shards import TransferShards, open_transfer_shards
from distill.data.views import augmentation_name
from distill.loop.recipe import HeadFirst, Recipe
from distill.loop.run_directory import path_from
from distill.methods.dual_head import UNLABELLED
from distill.methods.transfer import Transfer
from distill.models.head_selection import check_choosable, lacks_most_classes
from distill.models.joint_heads import Head, classifiers, parameters
from distill.models.joint_start import continued, with_heads
from distill.models.student import NO_CLASSIFIER, PROBED, TRAINED, Student
from distill.splits.checked import CheckedSet, check_splits
from distill.stages.probe import check_probe_fits
from distill.stages.train_heads import student_heads
from distill.stages.train_options import TrainOptions, extended_arguments
from distill.task import BALANCED, TOP1, Task
from distill.teaching.online import OnlineTeaching, teaching_patches
from distill.teaching.opened import open_teaching
from distill.teaching.teaching import Teaching
from transferset.console import say
from transferset.errors import DataError, UsageError
from transferset.labelled import LabelledSet, load_labelled
from transferset.models.spec import parse_spec
from transferset.models.weights import weights_sha256

DEFAULT_EPOCHS = 60.0
# At 64 images per batch. From random weights half of it learnt visibly less in the same steps.
RANDOM_LR, WEIGHTS_LR = 4e-3, 1e-3


@dataclass(frozen=True)
class Inputs:
    """Everything that was opened before the first step. `probe`: what a classifier is fitted on at the end.
    `heads`: those of the student, side by side; of these the ones in `scored` are scored on val. `labels`
    (n,): the class number of every sample, -1 for none, where a head learns them. `parameters`: of the final
    student. `start`: hashes of what it starts from. `origins`: licences and sources of the transfer set."""

    method: Transfer
    shards: TransferShards
    samples: Samples
    teaching: Teaching
    student: Student
    probe: LabelledImages | None
    val: LabelledImages | None
    recipe: Recipe
    heads: tuple[Head, ...]
    scored: tuple[Head, ...]
    parameters: int
    labels: np.ndarray | None = None
    start: dict[str, str] = field(default_factory=dict)
    checked: CheckedSet | None = None
    origins: dict[str, Any] = field(default_factory=dict)


def open_inputs(
    options: TrainOptions,
    task: Task,
    method: Transfer,
    resolved: dict[str, Any],
    teaching: Teaching | None = None,
) -> Inputs:
    """Open everything, on what was `resolved` for the machine; raises as `train` does. `teaching`: that of
    another student of the same pass, if it is open already."""
    shards = _open_shards(options)
    teaching = teaching or open_teaching(options, method, resolved)
    heads = student_heads(options, teaching.heads)
    student, start = _start(options, task, heads)
    student.module.to(resolved["device"])
    _tell_if_enlarged(teaching, student)
    if not method.trains_classifier:
        check_probe_fits(student)
    count = parameters(student, heads)
    if method.output == "patches":
        assert isinstance(teaching, OnlineTeaching)
        teaching, student = teaching_patches(teaching, student, options.seed)
    labelled, probe, val, checked = None, None, None, None
    scored = heads[:1]
    if options.data is not None:
        checked = check_splits(
            load_labelled(options.data),
            drop_near=options.drop_near_copies,
            workers=options.execution.workers,
        )
        labelled = checked.labelled
        scored = classifiers(heads) if options.label_weight else _knowing(classifiers(heads), labelled)
        val = _judging(_read(options, labelled.split("val"), "val", student, scored[0].classes))
        if not method.trains_classifier:
            probe = _read_for_probe(options, labelled, student, val)
    if options.plan.patience and val is None:
        raise UsageError(
            "--patience without a val split that can judge: nothing is scored", hint="leave it out"
        )
    mixture = mix(shards.samples, labelled, options.labelled_share)
    teaching, mixture = teaching.on(mixture, options.execution.readers)
    labels = _labels(options, mixture, heads) if options.label_weight else None
    recipe = _recipe(options, student, len(mixture.samples))
    return Inputs(
        method=method,
        shards=shards,
        samples=mixture.samples,
        teaching=teaching,
        student=student,
        probe=probe,
        val=val,
        recipe=recipe,
        heads=heads,
        scored=scored,
        parameters=count,
        labels=labels,
        start=start,
        checked=checked,
        origins=origins(options.shards, len(shards.samples)),
    )


def _open_shards(options: TrainOptions) -> TransferShards:
    shards = open_transfer_shards(options.shards)
    if shards.dropped:
        say(f"left out {len(shards.dropped)} samples; the first: {': '.join(shards.dropped[0])}")
    return shards


def _start(options: TrainOptions, task: Task, heads: tuple[Head, ...]) -> tuple[Student, dict[str, str]]:
    """The student with all its heads; hashes of the weights that it starts from (with --from: those of the
    run), and of itself with the heads that it takes over."""
    if options.from_run is None:
        assert options.student is not None
        student = task.build_student(options.student, heads[0].classes, options.image_size, options.seed)
        start = {"start_sha256": weights_sha256(student.module)}
        return (student if len(heads) == 1 else with_heads(student, heads, options.seed)), start
    student = task.open_start(options.from_run)
    before = weights_sha256(student.module)
    student = continued(student, options.from_run, heads, options.seed)
    return student, {"start_sha256": before, "start_heads_sha256": weights_sha256(student.module)}


def _knowing(heads: tuple[Head, ...], labelled: LabelledSet) -> tuple[Head, ...]:
    """The first head that knows all classes of the labelled images; the first one if none does."""
    return next(((head,) for head in heads if set(labelled.classes) <= set(head.classes)), heads[:1])


def _judging(val: LabelledImages | None) -> LabelledImages | None:
    """val, unless it knows too few of the classes to choose by."""
    why = None if val is None else lacks_most_classes(val.labels, len(val.classes))
    if why is None:
        return val
    say(f"val judges nothing, because {why}")
    return None


def _labels(options: TrainOptions, mixture: Mixture, heads: tuple[Head, ...]) -> np.ndarray:
    labels = mixture.class_numbers(heads[0].classes)
    if (labels == UNLABELLED).all():
        raise UsageError(
            f"--label-weight: {options.data} has no labelled training image",
            hint="sort them into one folder for each class, or leave it out",
        )
    return labels


def _recipe(options: TrainOptions, student: Student, samples: int) -> Recipe:
    lr = RANDOM_LR if options.from_run is None and parse_spec(student.spec).is_random else WEIGHTS_LR
    recipe = options.plan.recipe(samples, DEFAULT_EPOCHS, lr, options.seed)
    if not options.head_epochs and options.backbone_lr_scale == 1:
        return recipe
    first = math.ceil(options.head_epochs * samples / recipe.batch_size)
    return replace(recipe, steps=first + recipe.steps, head=HeadFirst(first, options.backbone_lr_scale))


def _tell_if_enlarged(teaching: Teaching, student: Student) -> None:
    size = student.preprocessing.size
    if teaching.decode_size(size) < size:
        say(
            f"note: the store's images are decoded for {teaching.decode_size(size)} pixels, the student sees"
            f" {size}: large ones lose detail; distill label --decode-size {size} avoids it"
        )


def _read(
    options: TrainOptions, labelled: LabelledSet, split: str, student: Student, classes: tuple[str, ...]
) -> LabelledImages | None:
    if not labelled.images:
        return None
    return read_labelled_images(
        labelled.images,
        classes,
        decode_size=student.preprocessing.resize_short_side,
        cache_bytes=(options.execution.cache_mb << 20) // 4,
        what=f"{split} images of {options.data}",
    )


def _read_for_probe(
    options: TrainOptions, labelled: LabelledSet, student: Student, val: LabelledImages | None
) -> LabelledImages | None:
    """The labelled training images; what would make the probe impossible is told before the long part."""
    images = labelled.split("train") if labelled.has_splits else labelled
    lacking = sorted(set(student.classes) - set(images.classes))
    if lacking:
        raise DataError(
            f"{options.data} lacks training images of {len(lacking)} of the teacher's {len(student.classes)}"
            f" classes: {', '.join(lacking[:3])}",
            hint="add some, or leave --data out: the run then has no classifier until it is finetuned",
        )
    train = _read(options, images, "train", student, student.classes)
    if train is not None:
        weight = "balanced" if options.metric == BALANCED else "none"
        check_choosable(train.labels, val.labels if val else None, len(student.classes), weight)
    return train


def config(options: TrainOptions, inputs: Inputs, resolved: dict[str, Any]) -> dict[str, Any]:
    """config.json: `arguments` and `inputs` are what a resumed run must agree with."""
    recipe, free = inputs.recipe.to_dict()
    method, teaching = inputs.method, inputs.teaching
    facts = teaching.facts()
    return {
        "command": "train",
        "arguments": {
            **recipe,
            "method": options.method,
            "feature_loss": method.feature_loss,
            "image_size": inputs.student.preprocessing.size,
            "views": teaching.plan.views,
            "augment": augmentation_name(teaching.plan.augment),
            "temperature": method.temperature,
            "labelled_share": options.labelled_share if options.data else None,
            "student": options.student,
            **extended_arguments(options),
            "metric": None if options.metric == TOP1 else options.metric,
        },
        "inputs": {
            "samples": len(inputs.samples),
            "samples_sha256": inputs.samples.fingerprint,
            **inputs.start,
            "labels_sha256": _labels_sha256(inputs.labels),
            **teaching.inputs(),
            "data_sha256": inputs.checked.fingerprint if inputs.checked else None,
            "val_sha256": inputs.val.fingerprint if inputs.val else None,
            "probe_sha256": inputs.probe.fingerprint if inputs.probe else None,
        },
        "resolved": {
            **resolved,
            **free,
            "decode_size": decode_size(inputs),
            "runtime": facts["runtime"],
            "precision": facts["precision"],
        },
        "teacher": facts,
        "transfer_set": inputs.origins,
        "student": {
            "spec": inputs.student.spec,
            "parameters": inputs.parameters,
            "classifier": classifier_to_be(inputs),
            "from": path_from(options.out, options.from_run) if options.from_run else None,
        },
        "augmentation": teaching.plan.augment.to_dict(),
    }


def _labels_sha256(labels: np.ndarray | None) -> str | None:
    return None if labels is None else hashlib.sha256(labels.astype("<i8").tobytes()).hexdigest()


def classifier_to_be(inputs: Inputs) -> str:
    """What the student's classifier is going to be."""
    if inputs.method.trains_classifier:
        return TRAINED
    return PROBED if inputs.probe else NO_CLASSIFIER


def chooses_step(inputs: Inputs) -> bool:
    """Whether val, if there is one, chooses among the steps: not where features are matched, and not where
    several teachers have a head each, of which val knows one and would choose against the others."""
    one = len(classifiers(inputs.heads)) == 1
    return inputs.method.trains_classifier and (one or inputs.labels is not None)


def decode_size(inputs: Inputs) -> int:
    """Short side that images are decoded for."""
    return inputs.teaching.decode_size(inputs.student.preprocessing.size)
