"""`distill train`: a student learns from the teacher's predictions on a transfer set."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distill.data.batches import BatchReader
from distill.data.labelled_images import LabelledImages
from distill.data.samples import ImageReader
from distill.loop.checkpoints import Checkpoints
from distill.loop.execution import torch_threads
from distill.loop.ledger import Ledger
from distill.loop.run_directory import CHECKPOINTS, RunDirectory
from distill.loop.trainer import Hooks, Trainer
from distill.metrics import wilson_interval
from distill.models.student import reset_classifier
from distill.stages.feed import Feed
from distill.stages.probe import fit_probe, set_classifier
from distill.stages.result import (
    StudentReport,
    finish,
    report_from_json,
    scorer,
    write_student_facts,
)
from distill.stages.train_inputs import (
    Inputs,
    TrainOptions,
    check,
    classifier_to_be,
    config,
    decode_size,
    open_inputs,
)
from distill.task import CLASSIFICATION, Task
from transferset.console import say
from transferset.lock import DirectoryLock
from transferset.models.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import nn


OUTPUTS = "teacher_outputs.npy"
UNREADABLE = "unreadable.json"

_Found = tuple[int, float, str, tuple[float, float]]  # chosen step, score, what it was measured on, interval


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
        resolved = run.resolved() or options.execution.resolve()
        with torch_threads(resolved["threads"]):
            inputs = open_inputs(options, task, method, resolved)
            run.open(config(options, inputs, resolved))
            if inputs.checked is not None:
                inputs.checked.record(options.out)
            done = run.report()
            if done is not None:
                say(f"{options.out} is complete: nothing to do")
                return report_from_json(done)
            return Training(options, task, run, inputs).run()


def image_reader(options: TrainOptions, inputs: Inputs, decode_size: int) -> ImageReader:
    """Decoded images of the run's samples."""
    reader = ImageReader(
        inputs.samples,
        decode_size,
        cache_bytes=(options.execution.cache_mb << 20) * 3 // 4,
        record=options.out / UNREADABLE,
    )
    for index, reason in inputs.teaching.unreadable().items():
        reader.leave_out(index, reason)
    return reader


class Training:
    """The pieces of one run: the feed, the loop, and where features were matched the classifier."""

    def __init__(
        self,
        options: TrainOptions,
        task: Task,
        run: RunDirectory,
        inputs: Inputs,
        reader: ImageReader | None = None,
    ) -> None:
        self.options = options
        self.task = task
        self.directory = run
        self.inputs = inputs
        self.ledger = Ledger()
        self.reader = reader or image_reader(options, inputs, decode_size(inputs))

    def run(self) -> StudentReport:
        """Train, give the student its classifier, write."""
        outputs = self.options.out / OUTPUTS
        feed = self.feed(outputs)
        trainer = self.trainer(feed)
        trainer.run()
        feed.outputs.close()
        report = self.end(trainer)
        outputs.unlink(missing_ok=True)
        return report

    def end(self, trainer: Trainer) -> StudentReport:
        """Give the trained student its classifier, and write it."""
        options, inputs = self.options, self.inputs
        if inputs.method.trains_classifier:
            best = trainer.at.best()
            found = best and (*best, "val", wilson_interval(best[1], len(inputs.val or ())))
            report = self.report(trainer, found)
            weights = trainer.best_weights()
        else:
            report = self.report(trainer, self.finish_classifier(trainer))
            weights = inputs.student.module.state_dict()
        return finish(options.out, weights, report)

    def trainer(self, feed: Feed, *, pays: bool = True) -> Trainer:
        """The loop; `pays`: whether what reading and teacher cost goes into the ledger of this student."""
        options, inputs = self.options, self.inputs
        student, recipe, method = inputs.student, inputs.recipe, inputs.method
        write_student_facts(options.out, student)
        if not method.trains_classifier:
            reset_classifier(student.module, inputs.teaching.width, options.seed)
        hooks = Hooks(
            stream=feed.stream,
            method=inputs.teaching.loss(method),
            log=self.directory.log,
            score=self.scorer(inputs.val) if inputs.val and method.trains_classifier else None,
            flush=feed.outputs.flush,
            rewind=self.directory.rewind,
            collect=feed.collect if pays else lambda ledger: None,
        )
        return Trainer(student, recipe, hooks, Checkpoints(options.out / CHECKPOINTS), self.ledger)

    def feed(self, path: Path, others: Sequence[Preprocessing] = ()) -> Feed:
        """Views of the samples, for `others` too, and what the teacher says of them, kept in `path`."""
        options, inputs, teaching = self.options, self.inputs, self.inputs.teaching
        outputs = teaching.outputs(path, len(inputs.samples))
        student = inputs.student.preprocessing
        batches = BatchReader(self.reader, teaching.plan, student, teaching.preprocessing, others)
        return Feed(batches, outputs, options.execution.readers, inputs.recipe.end)

    def scorer(self, images: LabelledImages) -> "Callable[[nn.Module], float]":
        """The score on labelled images."""
        return scorer(self.task, self.inputs.student, images, self.ledger)

    def finish_classifier(self, trainer: Trainer) -> _Found | None:
        """Put a classifier in place of the projection: a linear probe, or, without labels, its start."""
        student, seed, val = self.inputs.student, self.options.seed, self.inputs.val
        student.module.load_state_dict(trainer.best_weights())
        reset_classifier(student.module, len(student.classes), seed)
        if self.inputs.probe is None:
            out = self.options.out
            say(f"without --data the student has no classifier: distill finetune --from {out} gives it one")
            return None
        choice = fit_probe(student, self.inputs.probe, val, self.ledger, seed=seed).choice
        set_classifier(student, choice.head)
        score, count, judged_on = choice.chosen.top1, len(choice.labels), choice.judged_on
        if val is not None:
            score, count, judged_on = self.scorer(val)(student.module), len(val), "val"
        return trainer.at.step, score, judged_on, wilson_interval(score, count)

    def report(self, trainer: Trainer, found: _Found | None) -> StudentReport:
        """What has come out; `found`: if it was scored."""
        inputs = self.inputs
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
            classifier=classifier_to_be(inputs),
        )
