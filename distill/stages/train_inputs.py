"""What `distill train` is given, opened and checked before its first step, and how config.json records it."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from distill.data.batches import ViewPlan
from distill.data.labelled_images import LabelledImages, read_labelled_images
from distill.data.mixture import mix
from distill.data.samples import Samples
from distill.data.transfer_shards import TransferShards, open_transfer_shards
from distill.data.views import augmentation, augmentation_name
from distill.loop.execution import Execution
from distill.loop.plan import Plan
from distill.loop.recipe import Recipe
from distill.methods.transfer import TASK_ORIENTED, Transfer
from distill.models.head_selection import check_choosable
from distill.models.student import NO_CLASSIFIER, PROBED, TRAINED, Student
from distill.splits.checked import CheckedSet, check_splits
from distill.stages.probe import check_probe_fits
from distill.stages.teaching import (
    DEFAULT_AUGMENT,
    DEFAULT_VIEWS,
    Asked,
    OnlineTeaching,
    Teaching,
    stored_teaching,
)
from distill.task import Task
from transferset.console import say
from transferset.errors import DataError, UsageError
from transferset.labelled import LabelledSet, load_labelled
from transferset.models.spec import parse_spec

DEFAULT_EPOCHS = 60.0
# At 64 images a batch. From random weights half of it learnt visibly less in the same steps.
RANDOM_LR, WEIGHTS_LR = 4e-3, 1e-3


@dataclass(frozen=True)
class TrainOptions:
    """What `distill train` is given.

    `data`: labelled images; those of its train split (all, without splits) are mixed in without their labels,
    repeated so that they make up about `labelled_share` of an epoch; its val split is scored regularly and
    the best student is kept. A `method` that matches features, by `feature_loss`, scores nothing on the way:
    the classifier is fitted at the end, on these labels. `views` K: the same K views of every image come
    again after K epochs, so that the teacher looks at each only once (0: new views every epoch).
    `temperature`: of the comparison, beyond the teacher's own fitted one (None: the method's default).
    `runtime`, `precision`: what the teacher runs on. `labels_from`: a store of `distill label`, which takes
    the teacher's place and says which views there are; a `teacher` that is given too must be the one that
    labelled. `drop_near_copies`: leave out training images of `data` that look like val or test images.
    """

    shards: tuple[str | Path, ...]
    teacher: Path | None
    student: str
    out: Path
    data: Path | None = None
    method: str = TASK_ORIENTED
    feature_loss: str | None = None
    image_size: int | None = None
    plan: Plan = field(default_factory=Plan)
    views: int | None = None
    augment: str | None = None
    temperature: float | None = None
    labelled_share: float = 0.1
    drop_near_copies: bool = False
    seed: int = 0
    runtime: str = "auto"
    labels_from: Path | None = None
    precision: str = "auto"
    execution: Execution = field(default_factory=Execution)


@dataclass(frozen=True)
class Inputs:
    """Everything that was opened before the first step. `probe`: what a classifier is fitted on at the
    end."""

    method: Transfer
    shards: TransferShards
    samples: Samples
    teaching: Teaching
    student: Student
    probe: LabelledImages | None
    val: LabelledImages | None
    recipe: Recipe
    checked: CheckedSet | None = None


def check(options: TrainOptions, task: Task) -> Transfer:
    """The method; UsageError for options that don't fit each other."""
    method = task.transfer(options.method, temperature=options.temperature, feature_loss=options.feature_loss)
    if options.plan.batch_size < method.least_batch:
        raise UsageError(
            f"--batch-size {options.plan.batch_size} with --feature-loss {method.feature_loss}, which"
            " compares the images of a batch",
            hint=f"give at least {method.least_batch}",
        )
    if options.plan.patience and not method.trains_classifier:
        raise UsageError(
            f"--patience with --method {options.method}: nothing is scored before the end",
            hint="leave it out",
        )
    if options.teacher is None and options.labels_from is None:
        raise UsageError(
            "neither --teacher nor --labels-from was given",
            hint="give the directory that distill adapt wrote, or a store of distill label",
        )
    if options.augment is not None:
        augmentation(options.augment)
    if options.views is not None and options.views < 0:
        raise UsageError(
            f"--views {options.views} must not be negative", hint="0 means new views in every epoch"
        )
    if not 0 <= options.labelled_share < 1:
        raise UsageError(f"--labelled-share {options.labelled_share} must be at least 0 and less than 1")
    return method


def open_inputs(
    options: TrainOptions,
    task: Task,
    method: Transfer,
    resolved: dict[str, Any],
    teaching: Teaching | None = None,
) -> Inputs:
    """Open everything, on what was `resolved` for the machine; raises as `train` does. `teaching`: that of
    another student of the same pass, if it is open already."""
    shards = open_transfer_shards(options.shards)
    if shards.dropped:
        say(f"left out {len(shards.dropped)} samples; the first: {': '.join(shards.dropped[0])}")
    teaching = teaching or _open_teaching(options, method, resolved)
    student = task.build_student(options.student, teaching.classes, options.image_size, options.seed)
    student.module.to(resolved["device"])
    _tell_if_enlarged(teaching, student)
    if not method.trains_classifier:
        check_probe_fits(student)
    labelled, probe, val, checked = None, None, None, None
    if options.data is not None:
        checked = check_splits(
            load_labelled(options.data),
            drop_near=options.drop_near_copies,
            workers=options.execution.workers,
        )
        labelled = checked.labelled
        val = _read(options, labelled.split("val"), "val", student)
        if not method.trains_classifier:
            probe = _read_for_probe(options, labelled, student, val)
    lr = RANDOM_LR if parse_spec(options.student).is_random else WEIGHTS_LR
    mixture = mix(shards.samples, labelled, options.labelled_share)
    teaching, mixture = teaching.on(mixture, options.execution.readers)
    recipe = options.plan.recipe(len(mixture.samples), DEFAULT_EPOCHS, lr, options.seed)
    return Inputs(method, shards, mixture.samples, teaching, student, probe, val, recipe, checked)


def _tell_if_enlarged(teaching: Teaching, student: Student) -> None:
    size = student.preprocessing.size
    if teaching.decode_size(size) < size:
        say(
            f"note: the store's images are decoded for {teaching.decode_size(size)} pixels, the student sees"
            f" {size}: large ones lose detail; distill label --decode-size {size} avoids it"
        )


def _open_teaching(options: TrainOptions, method: Transfer, resolved: dict[str, Any]) -> Teaching:
    """The store, or the teacher."""
    from distill.models.teacher import open_teacher

    batch_size = options.plan.batch_size
    views = DEFAULT_VIEWS if options.views is None else options.views
    plan = ViewPlan(augmentation(options.augment or DEFAULT_AUGMENT), options.seed, batch_size, views)
    if options.labels_from is not None:
        asked = Asked(options.teacher, options.views, options.augment)
        return stored_teaching(options.labels_from, plan, asked, method)
    assert options.teacher is not None
    teacher = open_teacher(
        options.teacher,
        runtime=resolved.get("runtime", options.runtime),
        precision=resolved.get("precision", options.precision),
        batch_size=batch_size,
        device=resolved["device"],
        threads=resolved["threads"],
    )
    return OnlineTeaching(teacher, method, plan)


def _read(
    options: TrainOptions, labelled: LabelledSet, split: str, student: Student
) -> LabelledImages | None:
    if not labelled.images:
        return None
    return read_labelled_images(
        labelled.images,
        student.classes,
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
    train = _read(options, images, "train", student)
    if train is not None:
        check_choosable(train.labels, val.labels if val else None, len(student.classes), "none")
    return train


def config(options: TrainOptions, inputs: Inputs, resolved: dict[str, Any]) -> dict[str, Any]:
    """config.json: `arguments` and `inputs` are what a resumed run must agree with."""
    recipe = asdict(inputs.recipe)
    free = {name: recipe.pop(name) for name in ("checkpoint_every", "log_every")}
    method, teaching = inputs.method, inputs.teaching
    facts = teaching.facts()
    parameters = sum(parameter.numel() for parameter in inputs.student.module.parameters())
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
        },
        "inputs": {
            "samples": len(inputs.samples),
            "samples_sha256": inputs.samples.fingerprint,
            **teaching.inputs(),
            "val_sha256": inputs.val.samples.fingerprint if inputs.val else None,
            "probe_sha256": inputs.probe.samples.fingerprint if inputs.probe else None,
        },
        "resolved": {
            **resolved,
            **free,
            "decode_size": decode_size(inputs),
            "runtime": facts["runtime"],
            "precision": facts["precision"],
        },
        "teacher": facts,
        "student": {
            "spec": inputs.student.spec,
            "parameters": parameters,
            "classifier": classifier_to_be(inputs),
        },
        "augmentation": teaching.plan.augment.to_dict(),
    }


def classifier_to_be(inputs: Inputs) -> str:
    """What the student's classifier is going to be."""
    if inputs.method.trains_classifier:
        return TRAINED
    return PROBED if inputs.probe else NO_CLASSIFIER


def decode_size(inputs: Inputs) -> int:
    """Short side that images are decoded for."""
    return inputs.teaching.decode_size(inputs.student.preprocessing.size)
