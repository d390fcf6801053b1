"""`distill train`: a student learns from the teacher's predictions on a transfer set."""

import math
from collections.abc import Generator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.data.batches import Batch, BatchReader, ViewPlan
from distill.data.labelled_images import LabelledImages, read_labelled_images
from distill.data.samples import ImageReader, Samples, join, samples_of_files
from distill.data.teacher_outputs import TeacherOutputs
from distill.data.transfer_shards import TransferShards, open_transfer_shards
from distill.data.views import augmentation
from distill.loop.checkpoints import Checkpoints
from distill.loop.execution import Execution, torch_threads
from distill.loop.ledger import Ledger
from distill.loop.plan import Plan
from distill.loop.run_directory import CHECKPOINTS, RunDirectory
from distill.loop.trainer import Hooks, Recipe, Trainer
from distill.metrics import wilson_interval
from distill.models.student import Student
from distill.stages.result import (
    StudentReport,
    finish,
    report_from_json,
    scorer,
    write_student_facts,
)
from distill.task import CLASSIFICATION, Task
from transferset.console import say
from transferset.errors import UsageError
from transferset.labelled import LabelledSet, load_labelled
from transferset.lock import DirectoryLock
from transferset.models.spec import parse_spec
from transferset.parallel import ordered_map

if TYPE_CHECKING:
    from distill.models.teacher import Teacher

OUTPUTS = "teacher_outputs.npy"
UNREADABLE = "unreadable.json"
DEFAULT_EPOCHS = 60.0
# At 64 images a batch. From random weights half of it learnt visibly less in the same steps.
RANDOM_LR, WEIGHTS_LR = 4e-3, 1e-3


@dataclass(frozen=True)
class TrainOptions:
    """What `distill train` is given.

    `data`: labelled images; those of its train split (all, without splits) are mixed in without their labels,
    repeated so that they make up about `labelled_share` of an epoch; its val split is scored regularly and
    the best student is kept. `views` K: the same K views of every image come again after K epochs, so that
    the teacher looks at each only once (0: new views every epoch). `temperature`: of the comparison, beyond
    the teacher's own fitted one. `runtime`: what the teacher runs on.
    """

    shards: tuple[str | Path, ...]
    teacher: Path
    student: str
    out: Path
    data: Path | None = None
    method: str = "task-oriented"
    image_size: int | None = None
    plan: Plan = field(default_factory=Plan)
    views: int = 8
    augment: str = "standard"
    temperature: float = 1.0
    labelled_share: float = 0.1
    seed: int = 0
    runtime: str = "auto"
    execution: Execution = field(default_factory=Execution)


@dataclass(frozen=True)
class _Inputs:
    """Everything that was opened before the first step."""

    shards: TransferShards
    samples: Samples
    teacher: "Teacher"
    student: Student
    val: LabelledImages | None
    recipe: Recipe


def train(options: TrainOptions, task: Task = CLASSIFICATION) -> StudentReport:
    """Train a student to give the teacher's class probabilities; the run is written to, and resumed in,
    `options.out`.

    The final weights are those with the best score on the val split of `options.data`, or, without one, the
    moving average at the end. Raises UsageError for options that don't fit each other or the run that is
    there, DataError for unusable images or a teacher with other classes, NumericError, InterruptedRun.
    """
    _check(options, task)
    run = RunDirectory(options.out)
    with DirectoryLock(options.out):
        resolved = run.resolved() or options.execution.resolve()
        with torch_threads(resolved["threads"]):
            inputs = _open(options, task, resolved)
            run.open(_config(options, inputs, resolved))
            done = run.report()
            if done is not None:
                say(f"{options.out} is complete: nothing to do")
                return report_from_json(done)
            return _run(options, task, run, inputs)


def _check(options: TrainOptions, task: Task) -> None:
    if options.method not in task.transfer:
        raise UsageError(f"unknown --method {options.method!r}", hint=f"one of: {', '.join(task.transfer)}")
    augmentation(options.augment)
    if options.views < 0:
        raise UsageError(
            f"--views {options.views} must not be negative", hint="0 means new views in every epoch"
        )
    if not 0 < options.temperature < math.inf:
        raise UsageError(f"--temperature {options.temperature} must be positive and finite")
    if not 0 <= options.labelled_share < 1:
        raise UsageError(f"--labelled-share {options.labelled_share} must be at least 0 and less than 1")


def _open(options: TrainOptions, task: Task, resolved: dict[str, Any]) -> _Inputs:
    from distill.models.teacher import open_teacher

    shards = open_transfer_shards(options.shards)
    if shards.dropped:
        say(f"left out {len(shards.dropped)} samples; the first: {': '.join(shards.dropped[0])}")
    teacher = open_teacher(
        options.teacher,
        runtime=resolved.get("runtime", options.runtime),
        batch_size=options.plan.batch_size,
        device=resolved["device"],
        threads=resolved["threads"],
    )
    student = task.build_student(options.student, tuple(teacher.classes), options.image_size, options.seed)
    student.module.to(resolved["device"])
    samples, val = shards.samples, None
    if options.data is not None:
        labelled = load_labelled(options.data)
        samples = _mix(samples, labelled, options.labelled_share)
        val = _val(options, labelled, student)
    lr = RANDOM_LR if parse_spec(options.student).is_random else WEIGHTS_LR
    recipe = options.plan.recipe(len(samples), DEFAULT_EPOCHS, lr, options.seed)
    return _Inputs(shards, samples, teacher, student, val, recipe)


def _mix(transfer: Samples, labelled: LabelledSet, share: float) -> Samples:
    """Add the labelled training images, each as often as it takes to make about `share` of the list."""
    images = labelled.split("train").images if labelled.has_splits else labelled.images
    if not images or share == 0:
        return transfer
    repeat = max(1, round(share / (1 - share) * len(transfer) / len(images)))
    return join(transfer, samples_of_files([image.path for image in images]), repeat)


def _val(options: TrainOptions, labelled: LabelledSet, student: Student) -> LabelledImages | None:
    images = labelled.split("val").images
    if not images:
        return None
    return read_labelled_images(
        images,
        student.classes,
        decode_size=student.preprocessing.resize_short_side,
        cache_bytes=(options.execution.cache_mb << 20) // 4,
        what=f"val images of {options.data}",
    )


def _config(options: TrainOptions, inputs: _Inputs, resolved: dict[str, Any]) -> dict[str, Any]:
    """config.json: `arguments` and `inputs` are what a resumed run must agree with."""
    from distill.models.teacher import runtime_facts

    recipe = asdict(inputs.recipe)
    free = {name: recipe.pop(name) for name in ("checkpoint_every", "log_every")}
    parameters = sum(parameter.numel() for parameter in inputs.student.module.parameters())
    return {
        "command": "train",
        "arguments": {
            **recipe,
            "method": options.method,
            "image_size": inputs.student.preprocessing.size,
            "views": options.views,
            "augment": options.augment,
            "temperature": options.temperature,
            "labelled_share": options.labelled_share if options.data else None,
            "student": options.student,
        },
        "inputs": {
            "samples": len(inputs.samples),
            "samples_sha256": inputs.samples.fingerprint,
            "teacher_sha256": inputs.teacher.fingerprint,
            "val_sha256": inputs.val.samples.fingerprint if inputs.val else None,
        },
        "resolved": {
            **resolved,
            **free,
            "decode_size": _decode_size(inputs),
            "runtime": inputs.teacher.model.info.runtime,
        },
        "teacher": {"description": inputs.teacher.description, **runtime_facts(inputs.teacher.model)},
        "student": {"spec": inputs.student.spec, "parameters": parameters},
        "augmentation": augmentation(options.augment).to_dict(),
    }


def _decode_size(inputs: _Inputs) -> int:
    """The teacher's input; more only if the student's is larger, which would otherwise see enlarged
    pixels."""
    return max(inputs.teacher.preprocessing.size, inputs.student.preprocessing.size)


def _run(options: TrainOptions, task: Task, run: RunDirectory, inputs: _Inputs) -> StudentReport:
    ledger = Ledger()
    student, recipe = inputs.student, inputs.recipe
    write_student_facts(options.out, student)
    reader = ImageReader(
        inputs.samples,
        _decode_size(inputs),
        cache_bytes=(options.execution.cache_mb << 20) * 3 // 4,
        record=options.out / UNREADABLE,
    )
    plan = ViewPlan(augmentation(options.augment), options.seed, recipe.batch_size, options.views)
    feed = _Feed(
        BatchReader(reader, plan, student.preprocessing, inputs.teacher.preprocessing),
        TeacherOutputs(
            inputs.teacher,
            len(student.classes),
            path=options.out / OUTPUTS if options.views else None,
            samples=len(inputs.samples),
            views=options.views,
        ),
        options.execution.readers,
        recipe.end,
    )
    hooks = Hooks(
        stream=feed.stream,
        method=task.transfer[options.method](options.temperature),
        log=run.log,
        score=scorer(task, student, inputs.val, ledger) if inputs.val else None,
        flush=feed.outputs.flush,
        rewind=run.rewind,
        collect=feed.collect,
    )
    trainer = Trainer(student, recipe, hooks, Checkpoints(options.out / CHECKPOINTS), ledger)
    trainer.run()
    feed.outputs.close()
    unusable = (
        len(reader.dropped) + len(inputs.shards.dropped) + (len(inputs.val.dropped) if inputs.val else 0)
    )
    report = _finish(options, trainer, inputs, unusable)
    (options.out / OUTPUTS).unlink(missing_ok=True)
    return report


def _finish(options: TrainOptions, trainer: Trainer, inputs: _Inputs, dropped: int) -> StudentReport:
    best = trainer.at.best()
    report = StudentReport(
        out=str(options.out),
        steps=trainer.at.step,
        images_seen=trainer.at.step * trainer.recipe.batch_size,
        chosen_step=best[0] if best else trainer.at.step,
        score=best[1] if best else None,
        scored_on="val" if best else None,
        interval=wilson_interval(best[1], len(inputs.val)) if best and inputs.val else None,
        skipped_steps=trainer.at.skipped,
        dropped=dropped,
        costs=trainer.ledger.to_dict(),
    )
    return finish(options.out, trainer.best_weights(), report)


class _Feed:
    """Batches with the teacher's targets, made ahead of the student by other threads, in the order of their
    steps."""

    def __init__(self, reader: BatchReader, outputs: TeacherOutputs, readers: int, end: int) -> None:
        self.reader = reader
        self.outputs = outputs
        self.readers = readers
        self.end = end
        self._told = {"data": (0, 0.0), "teacher": (0, 0.0)}

    def stream(self, step: int) -> Generator[Batch]:
        """From `step` on. What the teacher had computed before is made again if its file was lost."""
        if not self.outputs.found:
            self.outputs.replay(self.reader, step)
        batches = self.reader.stream(step, self.end, self.readers)
        yield from ordered_map(self.outputs.fill, batches, workers=1, window=2 if self.readers else 1)

    def collect(self, ledger: Ledger) -> None:
        """Add what reading and the teacher have cost since the last call."""
        now = {
            "data": (self.reader.images, self.reader.seconds),
            "teacher": (self.outputs.images, self.outputs.seconds),
        }
        for stage, (images, seconds) in now.items():
            before = self._told[stage]
            flops = (images - before[0]) * self.outputs.flops if stage == "teacher" else 0.0
            ledger.add(stage, images - before[0], seconds - before[1], flops)
        self._told = now
