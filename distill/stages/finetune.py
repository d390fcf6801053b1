"""`distill finetune`: a student learns the labels, from a transferred student or, as the baseline, from its
start."""

import shutil
from collections.abc import Generator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.data.batches import Batch, BatchReader, ViewPlan
from distill.data.folds import stratified_folds
from distill.data.labelled_images import LabelledImages, read_labelled_images
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
from transferset.errors import DataError, UsageError
from transferset.labelled import LabelledSet, load_labelled
from transferset.lock import DirectoryLock
from transferset.models.weights import weights_sha256

if TYPE_CHECKING:
    from torch import Tensor

# A transferred student knows the task already: gently. Anything else: as long as few labels take.
FROM_RUN_EPOCHS, FROM_RUN_LR = 30.0, 3e-4
BASELINE_EPOCHS, BASELINE_LR = 200.0, 2e-3


@dataclass(frozen=True)
class FinetuneOptions:
    """What `distill finetune` is given: labelled images, and a run to start `from_run` or a `student` spec.

    With a val split the best of all scored students is kept, the one it starts from among them. Without one,
    `folds` stratified folds decide how many steps help (possibly none); 0 folds: the whole schedule,
    unproven.
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
    seed: int = 0
    execution: Execution = field(default_factory=Execution)


@dataclass(frozen=True)
class _Inputs:
    student: Student
    train: LabelledImages
    val: LabelledImages | None
    recipe: Recipe


@dataclass(frozen=True)
class _Choice:
    """The step that was chosen, its score, and what it was measured on."""

    step: int
    score: float | None
    scored_on: str | None
    count: int = 0


def finetune(options: FinetuneOptions, task: Task = CLASSIFICATION) -> StudentReport:
    """Train a student on labels; the run is written to, and resumed in, `options.out`.

    Raises UsageError for options that don't fit each other or the run that is there, DataError for unusable
    images or labels that are not the run's classes, NumericError, InterruptedRun.
    """
    _check(options)
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
            return _Finetuning(options, task, run, inputs).run()


def _check(options: FinetuneOptions) -> None:
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


def _open(options: FinetuneOptions, task: Task, resolved: dict[str, Any]) -> _Inputs:
    labelled = load_labelled(options.data)
    if not labelled.classes:
        raise UsageError(
            f"{options.data} has no labels", hint="sort the images into one folder for each class"
        )
    student = _start(options, task, labelled)
    student.module.to(resolved["device"])
    training = labelled.split("train") if labelled.has_splits else labelled
    if not training.images:
        raise DataError(
            f"{options.data} has no train split", hint="it has: " + ", ".join(sorted(labelled.splits))
        )
    lacking = sorted(set(student.classes) - set(training.classes))
    if lacking and options.from_run is not None:
        raise DataError(
            f"{options.data} lacks training images of {len(lacking)} of {len(student.classes)} classes that"
            f" the student of {options.from_run} knows: {', '.join(lacking[:3])}",
            hint="finetuning without them would unlearn them",
        )
    if lacking:
        say(f"no training images of class {', '.join(lacking[:8])}: it will not be learnt")
    train, val = _read(options, student, training, "train"), None
    if labelled.split("val").images:
        val = _read(options, student, labelled.split("val"), "val")
    start = (FROM_RUN_EPOCHS, FROM_RUN_LR) if options.from_run else (BASELINE_EPOCHS, BASELINE_LR)
    return _Inputs(student, train, val, options.plan.recipe(len(train), *start, options.seed))


def _start(options: FinetuneOptions, task: Task, labelled: LabelledSet) -> Student:
    if options.from_run is not None:
        return task.open_start(options.from_run)
    assert options.student is not None
    return task.build_student(options.student, labelled.classes, options.image_size, options.seed)


def _read(options: FinetuneOptions, student: Student, images: LabelledSet, split: str) -> LabelledImages:
    return read_labelled_images(
        images.images,
        student.classes,
        decode_size=student.preprocessing.resize_short_side,
        cache_bytes=(options.execution.cache_mb << 20) // 2,
        what=f"{split} images of {options.data}",
    )


def _config(options: FinetuneOptions, inputs: _Inputs, resolved: dict[str, Any]) -> dict[str, Any]:
    """config.json: `arguments` and `inputs` are what a resumed run must agree with."""
    recipe = asdict(inputs.recipe)
    free = {name: recipe.pop(name) for name in ("checkpoint_every", "log_every")}
    return {
        "command": "finetune",
        "arguments": {
            **recipe,
            "image_size": inputs.student.preprocessing.size,
            "augment": options.augment,
            "label_smoothing": options.label_smoothing,
            "folds": None if inputs.val else options.folds,
            "student": options.student,
        },
        "inputs": {
            "start_sha256": weights_sha256(inputs.student.module),
            "train_sha256": inputs.train.samples.fingerprint,
            "val_sha256": inputs.val.samples.fingerprint if inputs.val else None,
        },
        "resolved": {**resolved, **free},
        "student": {"spec": inputs.student.spec, "from": str(options.from_run) if options.from_run else None},
        "augmentation": augmentation(options.augment).to_dict(),
    }


class _Finetuning:
    """The pieces of one finetuning run: folds if there are, then the final student."""

    def __init__(self, options: FinetuneOptions, task: Task, run: RunDirectory, inputs: _Inputs) -> None:
        self.options = options
        self.task = task
        self.directory = run
        self.inputs = inputs
        self.ledger = Ledger()
        self.start = {name: tensor.clone() for name, tensor in inputs.student.module.state_dict().items()}

    def run(self) -> StudentReport:
        """Choose, train, write."""
        student, recipe = self.inputs.student, self.inputs.recipe
        write_student_facts(self.options.out, student)
        if self.inputs.val is not None:
            choice, weights, trainer = self.by_val()
        else:
            choice = self.by_folds() if self.options.folds else _Choice(recipe.steps, None, None)
            trainer = self.fit(self.inputs.train, None, replace(recipe, stop_at=choice.step), None)
            weights = trainer.best_weights()
        dropped = len(self.inputs.train.dropped) + len(self.inputs.val.dropped if self.inputs.val else ())
        interval = None if choice.score is None else wilson_interval(choice.score, choice.count)
        report = StudentReport(
            out=str(self.options.out),
            steps=trainer.at.step,
            images_seen=self.ledger.stages["student"].images if "student" in self.ledger.stages else 0,
            chosen_step=choice.step,
            score=choice.score,
            scored_on=choice.scored_on,
            interval=interval,
            skipped_steps=trainer.at.skipped,
            dropped=dropped,
            costs=self.ledger.to_dict(),
        )
        report = finish(self.options.out, weights, report)
        for fold in (self.options.out / CHECKPOINTS).glob("fold-*"):
            shutil.rmtree(fold)
        return report

    def by_val(self) -> tuple[_Choice, dict[str, "Tensor"], Trainer]:
        """The best on val; the student that a `--from` run starts with wins ties."""
        val = self.inputs.val
        assert val is not None
        before = self.score_at_start(val)
        trainer = self.fit(self.inputs.train, val, self.inputs.recipe, None)
        best = trainer.at.best()
        assert best is not None
        if self.options.from_run is not None and before >= best[1]:
            say(f"finetuning did not help on val ({best[1]:.4f}, before {before:.4f}): the student stays")
            return _Choice(0, before, "val", len(val)), self.start, trainer
        return _Choice(best[0], best[1], "val", len(val)), trainer.best_weights(), trainer

    def by_folds(self) -> _Choice:
        """The number of steps with the best mean score on held-out images, over all folds."""
        train, recipe = self.inputs.train, self.inputs.recipe
        folds = min(self.options.folds, len(train))
        fold_of = stratified_folds(train.labels, folds, self.options.seed)
        sums: dict[int, float] = {}
        for fold in range(folds):
            held_out = train.subset(np.flatnonzero(fold_of == fold))
            rest = train.subset(np.flatnonzero(fold_of != fold))
            scores = [(0, self.score_at_start(held_out))] if self.options.from_run else []
            scores += self.fit(rest, held_out, replace(recipe, patience=0), f"fold-{fold}").at.scores
            for step, score in scores:
                sums[step] = sums.get(step, 0.0) + score * len(held_out)
        best = max(sums, key=lambda step: (round(sums[step], 6), -step))
        text = f"cross-validation, {folds} folds, which also chose the step"
        if self.options.from_run is not None:
            text += "; too high if the student or its teacher has learnt from these images before"
        return _Choice(best, sums[best] / len(train), text, len(train))

    def score_at_start(self, images: LabelledImages) -> float:
        """The score of the student as it was given."""
        module = self.inputs.student.module
        module.load_state_dict(self.start)
        return scorer(self.task, self.inputs.student, images, self.ledger)(module)

    def fit(
        self, train: LabelledImages, val: LabelledImages | None, recipe: Recipe, part: str | None
    ) -> Trainer:
        """Train from the start on some images; `part` names a fold."""
        options, student = self.options, self.inputs.student
        student.module.load_state_dict(self.start)
        plan = ViewPlan(augmentation(options.augment), options.seed, recipe.batch_size)
        reader = BatchReader(train.reader, plan, student.preprocessing)
        ledger = Ledger()

        def stream(step: int) -> Generator[Batch]:
            for batch in reader.stream(step, recipe.end, options.execution.readers):
                yield replace(batch, targets=train.labels[batch.indices])

        hooks = Hooks(
            stream=stream,
            method=self.task.supervised(options.label_smoothing),
            log=lambda entry: self.directory.log({**entry, "part": part} if part else entry),
            score=scorer(self.task, student, val, ledger) if val is not None else None,
            rewind=lambda step: self.directory.rewind(step, part),
            title=part or "finetune",
        )
        checkpoints = self.options.out / CHECKPOINTS
        trainer = Trainer(
            student, recipe, hooks, Checkpoints(checkpoints / part if part else checkpoints), ledger
        )
        trainer.run()
        for name, stage in ledger.stages.items():
            self.ledger.add(name, stage.images, stage.seconds, stage.flops)
        return trainer
