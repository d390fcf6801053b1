"""`distill train --student A --student B`: several students in one pass over the data and the teacher."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from distill.loop.execution import torch_threads
from distill.loop.run_directory import CONFIG, RunDirectory
from distill.loop.together import train_together
from distill.stages.result import StudentReport, report_from_json
from distill.stages.teaching import Teaching
from distill.stages.train import OUTPUTS, Training, image_reader
from distill.stages.train_inputs import Inputs, TrainOptions, check, config, decode_size, open_inputs
from distill.task import CLASSIFICATION, Task
from transferset.console import say
from transferset.errors import UsageError
from transferset.lock import DirectoryLock
from transferset.models.spec import parse_spec


def train_several(
    options: TrainOptions, students: tuple[str, ...], task: Task = CLASSIFICATION
) -> list[StudentReport]:
    """Train `students` on the same batches; each is a run of its own in `options.out`, `0-NAME`, `1-NAME`, …

    Every image is decoded once a step for all, and the teacher looks once at every view: its time stands in
    the costs of the first student. Where all are no larger than the teacher's input, each gets bitwise the
    weights that a run of its own would have given. Raises as `train` does.
    """
    if options.plan.patience:
        raise UsageError("--patience with several students, which end together", hint="leave it out")
    if (options.out / CONFIG).exists():
        raise UsageError(f"{options.out} is a run of one student", hint="give --out a new directory")
    named = enumerate(students)
    runs = [replace(options, student=spec, out=run_path(options.out, n, spec)) for n, spec in named]
    with _writing(options.out, [run.out for run in runs]):
        resolved = RunDirectory(runs[0].out).resolved() or options.execution.resolve()
        with torch_threads(resolved["threads"]):
            opened: list[Inputs] = []
            teaching: Teaching | None = None
            for run in runs:
                opened.append(open_inputs(run, task, check(run, task), resolved, teaching))
                teaching = opened[-1].teaching
            for run, inputs in zip(runs, opened, strict=True):
                RunDirectory(run.out).open(config(run, inputs, resolved))
                if inputs.checked is not None:
                    inputs.checked.record(run.out)
            return _train(options, runs, opened, task)


@contextlib.contextmanager
def _writing(out: Path, runs: list[Path]) -> Iterator[None]:
    """The locks of all folders; those that were made for nothing go again."""
    try:
        with contextlib.ExitStack() as held:
            for folder in (out, *runs):
                held.enter_context(DirectoryLock(folder))
            yield
    finally:
        for folder in runs:
            with contextlib.suppress(OSError):
                folder.rmdir()


def run_path(out: Path, number: int, spec: str) -> Path:
    """Where the run of a student is."""
    return out / f"{number}-{parse_spec(spec).name or spec}"


def _train(
    options: TrainOptions, runs: list[TrainOptions], opened: list[Inputs], task: Task
) -> list[StudentReport]:
    done = [RunDirectory(run.out).report() for run in runs]
    if all(report is not None for report in done):
        say(f"{options.out} is complete: nothing to do")
        return [report_from_json(report) for report in done if report is not None]
    reader = image_reader(runs[0], opened[0], max(decode_size(inputs) for inputs in opened))
    trainings = [
        Training(run, task, RunDirectory(run.out), inputs, reader)
        for run, inputs in zip(runs, opened, strict=True)
    ]
    outputs = options.out / OUTPUTS
    feed = trainings[0].feed(outputs, [inputs.student.preprocessing for inputs in opened[1:]])
    trainers = [training.trainer(feed, pays=training is trainings[0]) for training in trainings]
    train_together(trainers, feed.stream)
    feed.outputs.close()
    reports = [
        training.end(trainer) if report is None else report_from_json(report)
        for training, trainer, report in zip(trainings, trainers, done, strict=True)
    ]
    outputs.unlink(missing_ok=True)
    return reports
