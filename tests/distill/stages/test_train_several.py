"""Several students in one pass: each is what it would have become alone, and the teacher is asked once."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from distill import cli
from distill.loop.plan import Plan
from distill.loop.run_directory import RunDirectory
from distill.loop.trainer import Trainer
from distill.models.student import open_student
from distill.stages.evaluate import EvaluateOptions, evaluate
from distill.stages.finetune import FinetuneOptions, finetune
from distill.stages.label import LabelOptions, label
from distill.stages.train import TrainOptions, train
from distill.stages.train_several import run_path, train_several
from tests.distill.small import ONE_THREAD
from tests.distill.stages import killed
from tests.distill.stages.students import weights_sum
from transferset.entry_point import run_cli
from transferset.errors import DataError, InterruptedRun, UsageError

FIRST, SECOND = "timm:test_efficientnet@none", "timm:test_resnet@none"
STUDENTS = (FIRST, SECOND)
SAVE = "distill.loop.trainer:Trainer.save"
STEPS = 18


@pytest.fixture(scope="module")
def shards(noise_tar: Callable[..., Path]) -> Path:
    return noise_tar(41, first=0, cut=7)


def _options(shards: Path, teacher: Path, out: Path, **values: object) -> TrainOptions:
    plan = Plan(steps=STEPS, batch_size=16, lr=5e-3, checkpoint_every=6)
    options = TrainOptions((shards,), teacher, FIRST, out, image_size=32, views=3, runtime="eager", plan=plan)
    return replace(options, **{"execution": ONE_THREAD, **values})  # type: ignore[arg-type]


def _arguments(shards: Path, teacher: Path, out: Path) -> list[str]:
    given = ["train", "--shards", shards, "--teacher", teacher, "--out", out, "--student", FIRST]
    given += ["--student", SECOND, "--image-size", 32, "--views", 3, "--runtime", "eager", "--steps", STEPS]
    given += ["--batch-size", 16, "--lr", 5e-3, "--checkpoint-every", 6, "--threads", 1, "--device", "cpu"]
    return [str(argument) for argument in [*given, "--workers", 1]]


def _weights(out: Path) -> list[str]:
    runs = [run_path(out, number, spec) for number, spec in enumerate(STUDENTS)]
    return [weights_sum(run) for run in runs]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory, shards: Path, teacher: Path) -> Path:
    out = tmp_path_factory.mktemp("together") / "runs"
    train_several(_options(shards, teacher, out), STUDENTS)
    return out


def test_each_is_what_it_becomes_alone(together: Path, shards: Path, teacher: Path, tmp_path: Path) -> None:
    for number, spec in enumerate(STUDENTS):
        train(_options(shards, teacher, tmp_path / str(number), student=spec))
        alone = (tmp_path / str(number) / "model.safetensors").read_bytes()
        assert (run_path(together, number, spec) / "model.safetensors").read_bytes() == alone
        assert open_student(run_path(together, number, spec)).classes == ("blue", "green", "red")


def test_the_second_costs_no_teacher_time(together: Path) -> None:
    costs = [RunDirectory(run_path(together, n, spec)).report()["costs"] for n, spec in enumerate(STUDENTS)]  # type: ignore[index]
    assert costs[0]["teacher"]["images"] == 3 * 41 and "teacher" not in costs[1]
    assert costs[0]["student"]["images"] == costs[1]["student"]["images"] == STEPS * 16
    assert not (together / "teacher_outputs.npy").exists()
    assert {path.name for path in together.iterdir()} == {"0-test_efficientnet", "1-test_resnet"}


@pytest.mark.parametrize(("function", "call"), [(killed.TRAIN_STEP, 20), (SAVE, 4)])
def test_killed_and_resumed_they_end_with_the_same_bits(
    together: Path, shards: Path, teacher: Path, tmp_path: Path, function: str, call: int
) -> None:
    """Between two checkpoints; and when the first student has one that the second has not."""
    out = tmp_path / "runs"
    killed.kill(_arguments(shards, teacher, out), function, call)
    resumed = killed.resume(_arguments(shards, teacher, out), killed.TRAIN_STEP)
    assert resumed.calls == 2 * (STEPS - 6), "on from the newest checkpoint that both have"
    assert _weights(out) == _weights(together)


def test_interrupted_they_say_so_and_go_on(
    together: Path, shards: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, calls = Trainer.train_step, []

    def interrupted(self: Trainer, batch: object) -> None:
        calls.append(1)
        if len(calls) == 15:
            os.kill(os.getpid(), signal.SIGTERM)
        step(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "train_step", interrupted)
    with pytest.raises(InterruptedRun, match="stopped at step 8 of 18"):
        train_several(_options(shards, teacher, tmp_path / "runs"), STUDENTS)
    monkeypatch.undo()
    train_several(_options(shards, teacher, tmp_path / "runs"), STUDENTS)
    assert _weights(tmp_path / "runs") == _weights(together)


def test_other_sizes_labels_and_a_store(shards: Path, teacher: Path, labelled: Path, tmp_path: Path) -> None:
    """With val each is scored, and kept at its own best step; a store serves all of them."""
    store = tmp_path / "store"
    given = LabelOptions((shards,), teacher, store, views=2, runtime="eager", data=labelled)
    label(replace(given, execution=ONE_THREAD))
    options = _options(shards, teacher, tmp_path / "runs", data=labelled, labels_from=store, views=None)
    reports = train_several(replace(options, teacher=None), STUDENTS)
    assert all(report.scored_on == "val" and report.score is not None for report in reports)
    assert all("evaluate" in report.costs for report in reports)


def test_features_of_several(shards: Path, teacher: Path, tmp_path: Path) -> None:
    reports = train_several(_options(shards, teacher, tmp_path / "runs", method="task-agnostic"), STUDENTS)
    assert [report.classifier for report in reports] == ["none", "none"]


def test_what_is_refused(together: Path, shards: Path, teacher: Path, tmp_path: Path) -> None:
    options = _options(shards, teacher, together)
    with pytest.raises(UsageError, match=r"temperature: 1\.0 there, 2\.0 now"):
        train_several(replace(options, temperature=2.0), STUDENTS)
    with pytest.raises(UsageError, match="--patience"):
        train_several(replace(options, plan=replace(options.plan, patience=1)), STUDENTS)
    for students in ((SECOND, FIRST), (*STUDENTS, FIRST), (FIRST,)):
        with pytest.raises(UsageError, match="holds 0-test_efficientnet of 2 students"):
            train_several(options, students)
    assert {path.name for path in together.iterdir()} == {"0-test_efficientnet", "1-test_resnet"}
    with pytest.raises(UsageError, match="nope"):
        train_several(replace(options, out=tmp_path / "new"), (FIRST, "timm:nope@none"))
    assert not (tmp_path / "new").exists()
    with pytest.raises(UsageError, match="run of one student"):
        train_several(replace(options, out=run_path(together, 0, FIRST)), STUDENTS)


def test_on_the_command_line(
    together: Path, shards: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run_cli(cli.app, [*_arguments(shards, teacher, together), "--json"])
    output = capsys.readouterr()
    assert caught.value.code == 0 and "is complete" in output.err
    assert [one["steps"] for one in json.loads(output.out)["students"]] == [STEPS, STEPS]


def test_what_wants_one_of_them_says_which_there_are(together: Path, labelled: Path, tmp_path: Path) -> None:
    first = sorted(path for path in together.iterdir() if (path / "config.json").is_file())[0]
    with pytest.raises(DataError) as caught:
        evaluate(EvaluateOptions(together, labelled, "val", execution=ONE_THREAD))
    assert caught.value.hint == f"it holds 2 runs: give one of them, such as {first}"
    with pytest.raises(DataError) as caught:
        finetune(FinetuneOptions(labelled, tmp_path / "out", from_run=together, execution=ONE_THREAD))
    assert caught.value.hint == f"it holds 2 runs: give one of them, such as {first}"
