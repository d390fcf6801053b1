"""`distill train`: a student learns from the teacher's predictions on a transfer set."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from distill.data.batches import BatchReader
from distill.data.labelled_images import LabelledImages
from distill.data.samples import ImageReader
from distill.loop.checkpoints import Checkpoints
from distill.loop.execution import torch_threads
from distill.loop.hooks import Hooks
from distill.loop.ledger import Ledger
from distill.loop.mode import PLAIN, Mode
from distill.loop.mode_probe import resolve_mode
from distill.loop.run_directory import CHECKPOINTS, REPLAY, RunDirectory
from distill.loop.trainer import Trainer
from distill.methods.dual_head import UNLABELLED, DualHead
from distill.methods.transfer import Loss
from distill.metrics import Interval, weighted_interval
from distill.models.heads import image_weights
from distill.models.joint_heads import classifiers, only_head
from distill.models.patch_student import without_projection
from distill.models.student import Student, reset_classifier
from distill.splits.checked import record_start
from distill.stages.probe import fit_probe, set_classifier
from distill.stages.result import (
    StudentReport,
    finish,
    head_scorer,
    report_from_json,
    scorer,
    write_student_facts,
)
from distill.stages.train_checks import check
from distill.stages.train_heads import write_heads
from distill.stages.train_inputs import (
    Inputs,
    chooses_step,
    classifier_to_be,
    config,
    decode_size,
    open_inputs,
)
from distill.stages.train_options import TrainOptions
from distill.task import BALANCED, CLASSIFICATION, Task
from distill.teaching.feed import Feed
from transferset.console import say
from transferset.lock import DirectoryLock
from transferset.models.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import Tensor, nn


OUTPUTS = "teacher_outputs.npy"
UNREADABLE = "unreadable.json"

_Found = tuple[
    int, float, str, tuple[float, float] | None
]  # chosen step, score, what it was measured on, interval


def train(options: TrainOptions, task: Task = CLASSIFICATION) -> StudentReport:
    """Train a student to give what the teacher gives: class probabilities, classes or features; the run is
    written to, and resumed in, `options.out`.

    The final weights are those with the best score on the val split of `options.data`, or, without one or
    where features are matched, the moving average at the end. A student that has matched features gets its
    classifier from a linear probe on `options.data`; without, it has none yet, and `finetune` gives it one.

    Raises UsageError for options that don't fit each other or the run that is there, DataError for unusable
    images or a teacher with other classes, NumericError, InterruptedRun.
    """
    method = check(options, task)
    run = RunDirectory(options.out)
    with DirectoryLock(options.out):
        before = run.resolved()
        resolved = options.execution.resolve(before)
        with torch_threads(resolved["threads"]):
            inputs = open_inputs(options, task, method, resolved)
            mode = resolve_mode(before, inputs.student, inputs.recipe, options.execution)
            run.open(config(options, inputs, {**resolved, "student_mode": mode.to_dict()}))
            if inputs.checked is not None:
                inputs.checked.record(options.out, options.from_run)
            elif options.from_run is not None:
                record_start(options.out, options.from_run)
            done = run.report()
            if done is not None:
                say(f"{options.out} is complete: nothing to do")
                remove_outputs(options.out)
                return report_from_json(done)
            return Training(options, task, run, inputs, mode=mode).run()


def image_reader(options: TrainOptions, inputs: Inputs, decode_size: int) -> ImageReader:
    """Decoded images of the run's samples."""
    reader = ImageReader(
        inputs.samples,
        decode_size,
        cache_bytes=(options.execution.cache_mb << 20) * 3 // 4,
        record=options.out / UNREADABLE,
    )
    reader.leave_out(inputs.teaching.unreadable())
    return reader


def remove_outputs(out: Path) -> None:
    """The files that held what the teachers had said."""
    for path in out.glob(f"{Path(OUTPUTS).stem}*{Path(OUTPUTS).suffix}"):
        path.unlink(missing_ok=True)


class Training:
    """The pieces of one run: the feed, the loop, and where features were matched the classifier."""

    def __init__(
        self,
        options: TrainOptions,
        task: Task,
        run: RunDirectory,
        inputs: Inputs,
        reader: ImageReader | None = None,
        mode: Mode = PLAIN,
    ) -> None:
        self.options = options
        self.task = task
        self.directory = run
        self.inputs = inputs
        self.mode = mode
        self.ledger = Ledger()
        self.reader = reader or image_reader(options, inputs, decode_size(inputs))

    def run(self) -> StudentReport:
        """Train, give the student its classifier, write."""
        feed = self.feed(self.options.out / OUTPUTS)
        trainer = self.trainer(feed)
        trainer.run()
        feed.outputs.close()
        report = self.end(trainer)
        remove_outputs(self.options.out)
        return report

    def end(self, trainer: Trainer) -> StudentReport:
        """Give the trained student its classifier, and write it."""
        options, inputs = self.options, self.inputs
        if not inputs.method.trains_classifier:
            student, found = self.finish_classifier(trainer)
            report, weights = self.report(trainer, found), student.module.state_dict()
        else:
            best = trainer.at.best()
            found = None
            if best is not None and inputs.val is not None:
                found = (*best, "val", self.interval(best[1], inputs.val.labels))
            report, weights = self.report(trainer, found), trainer.best_weights()
            if len(inputs.heads) > 1:
                report, weights = self.choose_head(report, weights)
        self.directory.close()
        return finish(options.out, weights, report)

    def choose_head(
        self, report: StudentReport, weights: dict[str, "Tensor"]
    ) -> tuple[StudentReport, dict[str, "Tensor"]]:
        """Report and weights of the student with one head: of a teacher's and the labels' the better one on
        val (the teacher's without val); of several teachers' the first one, every head being kept beside
        it. A projection to features is left out."""
        inputs, student = self.inputs, self.inputs.student
        kept, scores = inputs.heads[0], []
        if len(classifiers(inputs.heads)) == 1:
            return report, only_head(student, weights, kept)
        if inputs.val is not None:
            student.module.load_state_dict(weights)
            scores = self.head_scores(inputs.val)(student.module)
        if inputs.labels is None:
            scored = inputs.scored[0]
            if inputs.val is not None:
                interval = self.interval(scores[0], inputs.val.labels)
                where = f"val, head {scored.name}"
                report = replace(report, score=scores[0], scored_on=where, interval=interval)
            write_heads(self.options.out, student, weights, inputs.heads, scored, report)
        elif scores:
            kept = inputs.scored[int(np.argmax(scores))]
            told = ", ".join(
                f"{head.name} {100 * score:.1f} %" for head, score in zip(inputs.scored, scores, strict=True)
            )
            say(f"head {kept.name} is kept (on val: {told})")
        return replace(report, head=kept.name), only_head(student, weights, kept)

    def trainer(self, feed: Feed, *, pays: bool = True) -> Trainer:
        """The loop; `pays`: whether what reading and teacher cost goes into the ledger of this student."""
        options, inputs = self.options, self.inputs
        student, recipe, method = inputs.student, inputs.recipe, inputs.method
        write_student_facts(options.out, student)
        if method.output == "features":
            reset_classifier(student.module, inputs.teaching.width, options.seed)
        hooks = Hooks(
            stream=feed.stream,
            method=self.loss(),
            log=self.directory.log,
            score=self.best_head(inputs.val) if inputs.val and chooses_step(inputs) else None,
            flush=feed.flush,
            rewind=self.directory.rewind,
            collect=feed.collect if pays else lambda ledger: None,
            divisible=method.least_batch == 1,
            replay=options.out / REPLAY,
        )
        checkpoints = Checkpoints(options.out / CHECKPOINTS)
        return Trainer(student, recipe, hooks, checkpoints, self.ledger, self.mode)

    def feed(self, path: Path, others: Sequence[Preprocessing] = ()) -> Feed:
        """Views of the samples, for `others` too, and what the teacher says of them, kept in `path`."""
        options, teaching = self.options, self.inputs.teaching
        outputs = teaching.outputs(path, len(self.inputs.samples))
        student = self.inputs.student.preprocessing
        batches = BatchReader(self.reader, teaching.plan, student, teaching.preprocessings, others)
        return Feed(batches, outputs, options.execution.readers, self.inputs.recipe.end, self.inputs.labels)

    def loss(self) -> Loss:
        """What compares the student's outputs with the targets."""
        inputs, taught = self.inputs, self.inputs.teaching.loss(self.inputs.method)
        if inputs.labels is None:
            return taught
        share = float(np.mean(inputs.labels != UNLABELLED))
        return DualHead(taught, inputs.heads[-1].start, self.options.label_weight, share)

    def head_scores(self, images: LabelledImages) -> "Callable[[nn.Module], list[float]]":
        """The scores of the heads that are scored."""
        columns = [head.columns for head in self.inputs.scored]
        student, metric = self.inputs.student, self.options.metric
        return head_scorer(self.task, student, images, self.ledger, columns, metric)

    def best_head(self, images: LabelledImages) -> "Callable[[nn.Module], float]":
        """The score of the better head."""
        scores = self.head_scores(images)
        return lambda module: max(scores(module))

    def scorer(self, images: LabelledImages) -> "Callable[[nn.Module], float]":
        """The score on labelled images."""
        return scorer(self.task, self.inputs.student, images, self.ledger, self.options.metric)

    def interval(self, score: float, labels: np.ndarray) -> Interval:
        """The 95 % interval of a score on images with these labels (n,)."""
        kind = "balanced" if self.options.metric == BALANCED else "none"
        return weighted_interval(score, image_weights(labels, kind))

    def finish_classifier(self, trainer: Trainer) -> tuple[Student, _Found | None]:
        """Put a classifier in place of the projection: a linear probe, or, without labels, its start."""
        student, seed, val = self.inputs.student, self.options.seed, self.inputs.val
        student.module.load_state_dict(trainer.best_weights())
        if self.inputs.method.output == "patches":
            student = without_projection(student)
        reset_classifier(student.module, len(student.classes), seed)
        if self.inputs.probe is None:
            out = self.options.out
            say(f"without --data the student has no classifier: distill finetune --from {out} gives it one")
            return student, None
        weight = "balanced" if self.options.metric == BALANCED else "none"
        probe = fit_probe(student, self.inputs.probe, val, self.ledger, class_weight=weight, seed=seed)
        set_classifier(student, probe.choice.head)
        if val is not None:
            score = self.scorer(val)(student.module)
            return student, (trainer.at.step, score, "val", self.interval(score, val.labels))
        labels, logits = probe.choice.labels, probe.choice.logits
        score = self.task.scores[self.options.metric](logits, labels)
        return student, (trainer.at.step, score, probe.choice.judged_on, self.interval(score, labels))

    def report(self, trainer: Trainer, found: _Found | None) -> StudentReport:
        """What has come out; `found`: if it was scored."""
        inputs = self.inputs
        if self.reader.dropped:
            name, reason = next(iter(self.reader.dropped.items()))
            told = f"{len(self.reader.dropped)} of {len(inputs.samples)} images could not be used"
            say(f"{told}, and others took their places; the first: {name}: {reason}")
        step, score, scored_on, interval = found or (trainer.at.step, None, None, None)
        dropped = len(self.reader.dropped) + len(inputs.shards.dropped)
        return StudentReport(
            out=str(self.options.out),
            steps=trainer.at.step,
            images_seen=trainer.at.step * trainer.recipe.batch_size,
            chosen_step=step,
            score=score,
            scored_on=scored_on,
            interval=interval,
            skipped_steps=trainer.at.skipped,
            dropped=dropped + (len(inputs.val.dropped) if inputs.val else 0),
            costs=self.ledger.to_dict(),
            metric=self.options.metric,
            classifier=classifier_to_be(inputs),
        )
