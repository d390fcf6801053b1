"""`distill finetune`: a student learns the labels, from a transferred student or, as the baseline, from its
start."""

import copy
import shutil
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from distill.data.batches import Batch, BatchReader, ViewPlan
from distill.data.labelled_images import LabelledImages
from distill.data.views import augmentation
from distill.loop.checkpoints import Checkpoints
from distill.loop.execution import torch_threads
from distill.loop.hooks import Hooks
from distill.loop.ledger import Ledger
from distill.loop.mode import Mode
from distill.loop.mode_probe import resolve_mode
from distill.loop.recipe import Recipe
from distill.loop.run_directory import CHECKPOINTS, REPLAY, RunDirectory
from distill.loop.trainer import Trainer
from distill.methods.retention import Retention, with_labels
from distill.methods.supervised import balanced_weights
from distill.methods.transfer import Loss
from distill.metrics import Interval, classification_metrics, weighted_interval, wilson_interval
from distill.models.flops import flops_per_image
from distill.models.head_selection import held_out_folds
from distill.models.heads import image_weights
from distill.models.student import predict
from distill.stages.finetune_inputs import FinetuneOptions, Inputs, check, config, open_inputs
from distill.stages.probe import fit_probe, set_classifier
from distill.stages.result import (
    StudentReport,
    finish,
    report_from_json,
    scorer,
    write_student_facts,
)
from distill.task import CLASSIFICATION, TOP1, Task, weighted_accuracy
from transferset.console import say
from transferset.lock import DirectoryLock

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class _Choice:
    """The step that was chosen, its score with its interval, and what it was measured on."""

    step: int
    score: float | None
    scored_on: str | None
    interval: Interval | None = None


@dataclass(frozen=True)
class Scored:
    """Images to score on; `shares` (n,): what each counts in the score of all folds (None: val)."""

    images: LabelledImages
    shares: np.ndarray | None = None


def finetune(options: FinetuneOptions, task: Task = CLASSIFICATION) -> StudentReport:
    """Train a student on labels; the run is written to, and resumed in, `options.out`.

    Raises UsageError for options that don't fit each other or the run that is there, DataError for unusable
    images or labels that are not the run's classes, NumericError, InterruptedRun.
    """
    check(options)
    run = RunDirectory(options.out)
    with DirectoryLock(options.out):
        before = run.resolved()
        resolved = options.execution.resolve(before)
        with torch_threads(resolved["threads"]):
            inputs = open_inputs(options, task, resolved)
            mode = resolve_mode(before, inputs.student, inputs.recipe, options.execution)
            run.open(config(options, inputs, {**resolved, "student_mode": mode.to_dict()}))
            inputs.checked.record(options.out, options.from_run)
            done = run.report()
            if done is not None:
                say(f"{options.out} is complete: nothing to do")
                remove_folds(options.out)
                return report_from_json(done)
            return _Finetuning(options, task, run, inputs, mode).run()


def remove_folds(out: Path) -> None:
    """The checkpoints of the folds, which a finished run has no use for."""
    for fold in (out / CHECKPOINTS).glob("fold-*"):
        shutil.rmtree(fold)


class _Finetuning:
    """The pieces of one finetuning run: folds if there are, then the final student."""

    def __init__(
        self, options: FinetuneOptions, task: Task, run: RunDirectory, inputs: Inputs, mode: Mode
    ) -> None:
        self.options = options
        self.task = task
        self.directory = run
        self.inputs = inputs
        self.mode = mode
        self.ledger = Ledger()
        self.start = _copy(inputs.student.module)
        size = inputs.student.preprocessing.size
        self.flops = flops_per_image(inputs.student.module, size, backward=False)
        self.probe = None
        if not inputs.student.has_classifier:
            weight = "balanced" if options.class_balanced else "none"
            self.probe = fit_probe(
                inputs.student, inputs.train, inputs.val, self.ledger, class_weight=weight, seed=options.seed
            )

    def run(self) -> StudentReport:
        """Choose, train, write."""
        student, recipe = self.inputs.student, self.inputs.recipe
        write_student_facts(self.options.out, student)
        if self.inputs.val is not None:
            choice, weights, trainer = self.by_val()
        else:
            choice = self.by_folds() if self.options.folds else _Choice(recipe.steps, None, None)
            trainer = self.fit(None, None, replace(recipe, stop_at=choice.step), None)
            weights = trainer.best_weights()
        dropped = len(self.inputs.train.dropped) + len(self.inputs.val.dropped if self.inputs.val else ())
        report = StudentReport(
            out=str(self.options.out),
            steps=trainer.at.step,
            images_seen=self.ledger.stages["student"].images if "student" in self.ledger.stages else 0,
            chosen_step=choice.step,
            score=choice.score,
            scored_on=choice.scored_on,
            interval=choice.interval,
            skipped_steps=trainer.at.skipped,
            dropped=dropped,
            costs=self.ledger.to_dict(),
            metric=self.options.metric,
        )
        self.directory.close()
        report = finish(self.options.out, weights, report)
        remove_folds(self.options.out)
        return report

    def by_val(self) -> tuple[_Choice, dict[str, "Tensor"], Trainer]:
        """The best on val; the student that a `--from` run starts with wins ties."""
        val = self.inputs.val
        assert val is not None
        before = self.score_at_start(Scored(val))
        trainer = self.fit(None, Scored(val), self.inputs.recipe, None)
        best = trainer.at.best()
        assert best is not None
        if self.options.from_run is not None and before >= best[1]:
            say(f"finetuning did not help on val ({best[1]:.4f}, before {before:.4f}): the student stays")
            weights, step, score = self.starting_weights(), 0, before
        else:
            weights, (step, score) = trainer.best_weights(), best
        return _Choice(step, score, "val", self.interval(weights, score, val)), weights, trainer

    def interval(self, weights: dict[str, "Tensor"], score: float, images: LabelledImages) -> Interval:
        """The 95 % interval of the score of these weights."""
        if self.options.metric == TOP1:
            return wilson_interval(score, len(images))
        student = self.inputs.student
        student.module.load_state_dict(weights)
        with self.ledger.timed("evaluate", len(images), len(images) * self.flops):
            logits = [student.logits(batch) for batch in images.rendered(student.preprocessing)]
        metrics = classification_metrics(np.concatenate(logits), images.labels, student.classes)
        return metrics.balanced_accuracy_interval

    def by_folds(self) -> _Choice:
        """The number of steps with the best mean score on held-out images, over all folds."""
        train, recipe = self.inputs.train, self.inputs.recipe
        folds = min(self.options.folds, len(train))
        fold_of = held_out_folds(train.labels, folds, self.options.seed)
        judged = fold_of >= 0
        shares = np.zeros(len(train))  # of every held-out image in the score of all folds
        kind = "balanced" if self.options.class_balanced else "none"
        shares[judged] = image_weights(train.labels[judged], kind) / np.count_nonzero(judged)
        sums: dict[int, float] = {}
        for fold in np.unique(fold_of[judged]).tolist():
            held_out, rows = np.flatnonzero(fold_of == fold), np.flatnonzero(fold_of != fold)
            scored = Scored(train.subset(held_out), shares[held_out])
            scores = [(0, self.score_at_start(scored, rows))] if self.options.from_run else []
            scores += self.fit(rows, scored, replace(recipe, patience=0), f"fold-{fold}").at.scores
            for step, score in scores:
                sums[step] = sums.get(step, 0.0) + score * shares[held_out].sum()
        best = max(sums, key=lambda step: (round(sums[step], 6), -step))
        text = f"cross-validation, {folds} folds, which also chose the step"
        if self.options.from_run is not None:
            text += "; too high if the student or its teacher has learnt from these images before"
        return _Choice(best, sums[best], text, weighted_interval(sums[best], shares[judged]))

    def starting_weights(self, rows: np.ndarray | None = None) -> dict[str, "Tensor"]:
        """The student as it was given; where it had no classifier, with one that has seen the training images
        of these `rows` (None: all)."""
        if self.probe is None:
            return self.start
        student = self.inputs.student
        student.module.load_state_dict(self.start)
        return _copy(set_classifier(student, self.probe.head(rows)).module)

    def score_at_start(self, scored: Scored, rows: np.ndarray | None = None) -> float:
        """The score of the student that training on these rows starts from."""
        module = self.inputs.student.module
        module.load_state_dict(self.starting_weights(rows))
        return self.scorer(scored, self.ledger)(module)

    def scorer(self, scored: Scored, ledger: Ledger) -> "Callable[[nn.Module], float]":
        """The score of a module on these images."""
        task, metric = self.task, self.options.metric
        if scored.shares is not None:
            task = replace(task, scores={metric: partial(weighted_accuracy, weights=scored.shares)})
        return scorer(task, self.inputs.student, scored.images, ledger, metric)

    def fit(self, rows: np.ndarray | None, val: Scored | None, recipe: Recipe, part: str | None) -> Trainer:
        """Train from the start on the images of some rows (None: all); `part` names a fold."""
        options, student = self.options, self.inputs.student
        student.module.load_state_dict(self.starting_weights(rows))
        before = copy.deepcopy(student.module) if options.retention else None
        train = self.inputs.train if rows is None else self.inputs.train.subset(rows)
        plan = ViewPlan(augmentation(options.augment), options.seed, recipe.batch_size)
        reader = BatchReader(train.reader, plan, student.preprocessing)
        ledger = Ledger()

        def stream(step: int) -> Generator[Batch]:
            for batch in reader.stream(step, recipe.end, options.execution.readers):
                labels = train.labels[batch.indices]
                yield replace(batch, targets=self.targets(labels, batch.images, before, ledger))

        hooks = Hooks(
            stream=stream,
            method=self.loss(train),
            log=lambda entry: self.directory.log({**entry, "part": part} if part else entry),
            score=self.scorer(val, ledger) if val is not None else None,
            rewind=lambda step: self.directory.rewind(step, part),
            title=part or "finetune",
            replay=options.out / REPLAY / (part or ""),
        )
        checkpoints = Checkpoints(options.out / CHECKPOINTS / (part or ""))
        trainer = Trainer(student, recipe, hooks, checkpoints, ledger, self.mode)
        trainer.run()
        for name, stage in ledger.stages.items():
            self.ledger.add(name, stage.images, stage.seconds, stage.flops)
        return trainer

    def loss(self, train: LabelledImages) -> Loss:
        """What compares the student's answers with `targets`."""
        options, classes = self.options, len(self.inputs.student.classes)
        weights = balanced_weights(train.labels, classes) if options.class_balanced else None
        own = self.task.supervised(options.label_smoothing, weights)
        return Retention(own, options.retention) if options.retention else own

    def targets(
        self, labels: np.ndarray, images: np.ndarray, before: "nn.Module | None", ledger: Ledger
    ) -> np.ndarray:
        """The labels, and what the student said of the images before, if that counts."""
        if before is None:
            return labels
        with ledger.timed("retention", len(images), len(images) * self.flops):
            return with_labels(labels, predict(self.inputs.student, before, images))


def _copy(module: "nn.Module") -> dict[str, "Tensor"]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}
