"""`distill train --student A --student B`: several students in one pass over the data and the teacher."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from distill.loop.execution import torch_threads
from distill.loop.mode import Mode
from distill.loop.mode_probe import resolve_mode
from distill.loop.run_directory import CONFIG, RunDirectory, read_object
from distill.loop.together import train_together
from distill.stages.result import StudentReport, report_from_json
from distill.stages.train import OUTPUTS, Training, image_reader, remove_outputs
from distill.stages.train_checks import check
from distill.stages.train_inputs import Inputs, config, decode_size, open_inputs
from distill.stages.train_options import TrainOptions
from distill.task import CLASSIFICATION, Task
from distill.teaching.teaching import Teaching
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
    if options.from_run is not None:
        raise UsageError("--from with several students: a run has one", hint="give --student once")
    if options.feature_loss == "patches":
        raise UsageError(
            "--feature-loss patches with several students: each has a grid of its own",
            hint="give --student once",
        )
    if (options.out / CONFIG).exists():
        raise UsageError(f"{options.out} is a run of one student", hint="give --out a new directory")
    _refuse_other_students(options.out, students)
    named = enumerate(students)
    runs = [replace(options, student=spec, out=run_path(options.out, n, spec)) for n, spec in named]
    with _writing(options.out, [run.out for run in runs]):
        resolved = options.execution.resolve(RunDirectory(runs[0].out).resolved())
        with torch_threads(resolved["threads"]):
            opened: list[Inputs] = []
            teaching: Teaching | None = None
            for run in runs:
                opened.append(open_inputs(run, task, check(run, task), resolved, teaching))
                teaching = opened[-1].teaching
            modes = [
                _open(run, inputs, {"number": number, "students": len(runs)}, resolved)
                for number, (run, inputs) in enumerate(zip(runs, opened, strict=True))
            ]
            return _train(options, runs, opened, modes, task)


def _refuse_other_students(out: Path, students: tuple[str, ...]) -> None:
    """UsageError where other students, or these in another order, have been begun."""
    wanted = [run_path(out, number, spec).name for number, spec in enumerate(students)]
    for run in sorted(path.parent for path in out.glob(f"[0-9]*-*/{CONFIG}")):
        count = read_object(run / CONFIG).get("together", {}).get("students")
        if run.name not in wanted or count != len(students):
            raise UsageError(
                f"{out} holds {run.name} of {count} students, and now they are {', '.join(wanted)}",
                hint="give the same students in the same order to resume, or --out another directory",
            )


def _open(run: TrainOptions, inputs: Inputs, together: dict[str, int], resolved: dict[str, Any]) -> Mode:
    """Start or take up the run of one student; the mode of its steps. `together`: its number, of how many."""
    directory = RunDirectory(run.out)
    mode = resolve_mode(directory.resolved(), inputs.student, inputs.recipe, run.execution)
    facts = config(run, inputs, {**resolved, "student_mode": mode.to_dict()})
    directory.open({**facts, "together": together})
    if inputs.checked is not None:
        inputs.checked.record(run.out)
    return mode


@contextlib.contextmanager
def _writing(out: Path, runs: list[Path]) -> Iterator[None]:
    """The locks of all folders; those that were made for nothing go again."""
    made = runs if out.exists() else [*runs, out]
    try:
        with contextlib.ExitStack() as held:
            for folder in (out, *runs):
                held.enter_context(DirectoryLock(folder))
            yield
    finally:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def run_path(out: Path, number: int, spec: str) -> Path:
    """Where the run of a student is."""
    return out / f"{number}-{parse_spec(spec).name or spec}"


def _train(
    options: TrainOptions, runs: list[TrainOptions], opened: list[Inputs], modes: list[Mode], task: Task
) -> list[StudentReport]:
    done = [RunDirectory(run.out).report() for run in runs]
    if all(report is not None for report in done):
        say(f"{options.out} is complete: nothing to do")
        remove_outputs(options.out)
        return [report_from_json(report) for report in done if report is not None]
    reader = image_reader(runs[0], opened[0], max(decode_size(inputs) for inputs in opened))
    trainings = [
        Training(run, task, RunDirectory(run.out), inputs, reader, mode)
        for run, inputs, mode in zip(runs, opened, modes, strict=True)
    ]
    feed = trainings[0].feed(options.out / OUTPUTS, [inputs.student.preprocessing for inputs in opened[1:]])
    trainers = [training.trainer(feed, pays=training is trainings[0]) for training in trainings]
    train_together(trainers, feed.stream)
    feed.outputs.close()
    reports = [
        training.end(trainer) if report is None else report_from_json(report)
        for training, trainer, report in zip(trainings, trainers, done, strict=True)
    ]
    remove_outputs(options.out)
    return reports
