import json
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_model

from distill.loop.execution import Execution
from distill.loop.plan import Plan
from distill.loop.run_directory import RunDirectory
from distill.models.student import open_student
from distill.stages.train import TrainOptions, train
from tests.distill.small import CHANNELS, ONE_THREAD, TINY
from tests.distill.stages import killed
from tests.distill.stages.students import weights_sum
from transferset.errors import DataError, UsageError


@pytest.fixture(scope="module")
def shards(noise_tar: Callable[..., Path]) -> Path:
    """A foreign tar of unlabelled noise; one of its images is cut off."""
    return noise_tar(41, cut=7)


def _options(shards: Path, teacher: Path, out: Path, **values: object) -> TrainOptions:
    plan = values.pop("plan", Plan(steps=30, batch_size=16, lr=5e-3, checkpoint_every=6))
    options = TrainOptions((shards,), teacher, TINY, out, image_size=32, views=3, runtime="eager", plan=plan)  # type: ignore[arg-type]
    return replace(options, **{"execution": ONE_THREAD, **values})  # type: ignore[arg-type]


def _arguments(shards: Path, teacher: Path, out: Path) -> list[str]:
    """The command line of `_options`."""
    given = ["train", "--shards", shards, "--teacher", teacher, "--student", TINY, "--out", out]
    given += ["--image-size", 32, "--views", 3, "--runtime", "eager", "--steps", 30, "--batch-size", 16]
    given += ["--lr", 5e-3, "--checkpoint-every", 6, "--threads", 1, "--device", "cpu", "--workers", 1]
    return [str(argument) for argument in given]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, shards: Path, teacher: Path) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    train(_options(shards, teacher, out))
    return out


def test_a_run_without_labels(undisturbed: Path, shards: Path, teacher: Path, labelled: Path) -> None:
    run = RunDirectory(undisturbed)
    report = run.report()
    assert report is not None and report["score"] is None and report["dropped"] == 1
    assert report["images_seen"] == 480 and report["chosen_step"] == 30
    assert report["costs"]["teacher"]["images"] == 3 * 41
    assert all(report["costs"][stage]["flops"] > 0 for stage in ("teacher", "student"))
    lines = [entry for entry in run.metrics() if "loss" in entry]
    assert [entry["step"] for entry in lines] == list(range(3, 31, 3))
    assert lines[-1]["loss"] < lines[0]["loss"]
    keys = {"lr", "images_seen", "images_per_second", "data_wait_percent", "teacher_percent"}
    assert keys <= lines[0].keys()
    assert (
        "truncated"
        in json.loads((undisturbed / "unreadable.json").read_text())[f"{shards}@{_offset(shards)}"]
    )
    student = open_student(undisturbed)
    assert student.classes == CHANNELS and student.preprocessing.size == 32
    assert not (undisturbed / "teacher_outputs.npy").exists()
    (undisturbed / "teacher_outputs.npy").write_bytes(b"killed between the report and the clean-up")
    again = train(_options(shards, teacher, undisturbed))
    assert again.costs == report["costs"] and not (undisturbed / "teacher_outputs.npy").exists()


def _offset(shards: Path) -> int:
    from transferset.tars import scan

    return next(member.offset for member in scan(shards).members if member.name == "0007.jpg")


@pytest.mark.parametrize("workers", [0, 3])
def test_workers_and_cache_change_no_bit(
    undisturbed: Path, shards: Path, teacher: Path, tmp_path: Path, workers: int
) -> None:
    execution = Execution("cpu", threads=1, workers=workers, cache_mb=0)
    train(_options(shards, teacher, tmp_path / "run", execution=execution))
    assert weights_sum(tmp_path / "run") == weights_sum(undisturbed)


@pytest.mark.parametrize("step", [4, 19])
def test_a_killed_run_ends_with_the_same_bits(
    undisturbed: Path, shards: Path, teacher: Path, tmp_path: Path, step: int
) -> None:
    """Killed before the first checkpoint, and between two: with the teacher's outputs complete by then."""
    out = tmp_path / "run"
    killed.kill(_arguments(shards, teacher, out), killed.TRAIN_STEP, step + 1)
    assert not (out / "report.json").exists()
    resumed = killed.resume(_arguments(shards, teacher, out), killed.TRAIN_STEP)
    assert resumed.calls == 30 - step // 6 * 6, "on from the newest checkpoint"
    assert weights_sum(out) == weights_sum(undisturbed)
    assert (out / "unreadable.json").read_bytes() == (undisturbed / "unreadable.json").read_bytes()
    metrics = [entry["step"] for entry in RunDirectory(out).metrics() if "loss" in entry]
    assert metrics == list(range(3, 31, 3))


def test_half_precision_and_parts_resume_with_the_same_bits(
    undisturbed: Path, shards: Path, teacher: Path, tmp_path: Path
) -> None:
    """Precision is resolved once, so that the resumed piece need not name it; parts are an argument."""
    parts, half = ["--accumulate", "2"], ["--student-precision", "bf16"]
    whole, out = tmp_path / "whole", tmp_path / "run"
    killed.resume([*_arguments(shards, teacher, whole), *parts, *half], killed.TRAIN_STEP)
    killed.kill([*_arguments(shards, teacher, out), *parts, *half], killed.TRAIN_STEP, 9)
    assert killed.resume([*_arguments(shards, teacher, out), *parts], killed.TRAIN_STEP).calls == 24
    assert weights_sum(out) == weights_sum(whole) != weights_sum(undisturbed)
    assert json.loads((out / "config.json").read_text())["resolved"]["student_mode"]["precision"] == "bf16"


def test_an_interrupted_run_says_so_and_resumes(
    undisturbed: Path, shards: Path, teacher: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    slow = "import distill.data.batches as b, time\nr = b.BatchReader.read\n"
    slow += "b.BatchReader.read = lambda self, step: (time.sleep(0.3), r(self, step))[1]\n"
    slow += "from distill.cli import main\nmain()"
    process = killed.start(slow, _arguments(shards, teacher, out))
    metrics = out / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 75, errors
    assert "stopped at step" in errors and "re-run" in errors
    assert len(list((out / "checkpoints").glob("*.json"))) >= 1
    train(_options(shards, teacher, out))
    assert weights_sum(out) == weights_sum(undisturbed)


def _train_to_step_20(options: TrainOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    from distill.loop.trainer import Trainer

    step = Trainer.train_step

    def stops_at_20(self: Trainer, batch: object) -> None:
        if self.at.step == 20:
            raise KeyboardInterrupt
        step(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "train_step", stops_at_20)
    with pytest.raises(KeyboardInterrupt):
        train(options)
    monkeypatch.undo()


def test_a_full_disk_leaves_what_was_there(
    undisturbed: Path, shards: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit of a file's size gives EFBIG where a full disk gives ENOSPC."""
    out = tmp_path / "run"
    _train_to_step_20(_options(shards, teacher, out), monkeypatch)
    before = {path.name: path.read_bytes() for path in (out / "checkpoints").iterdir()}
    limited = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))\n"
    limited += "from distill.cli import main\nmain()"
    full = killed.run(limited, _arguments(shards, teacher, out))
    assert full.returncode == 6, full.stderr
    assert {path.name: path.read_bytes() for path in (out / "checkpoints").iterdir()} == before
    train(_options(shards, teacher, out))
    assert weights_sum(out) == weights_sum(undisturbed)


def test_lost_teacher_outputs_are_computed_again(
    undisturbed: Path, shards: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = _options(shards, teacher, tmp_path / "run")
    _train_to_step_20(options, monkeypatch)
    (tmp_path / "run" / "teacher_outputs.npy").unlink()
    train(options)
    assert weights_sum(tmp_path / "run") == weights_sum(undisturbed)


def test_labelled_images_are_mixed_in_and_val_selects(
    shards: Path, teacher: Path, labelled: Path, tmp_path: Path
) -> None:
    options = _options(shards, teacher, tmp_path / "run", data=labelled, labelled_share=0.5, views=0)
    report = train(options)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["inputs"]["samples"] == 41 + 2 * 18
    assert report.costs["teacher"]["images"] >= 480 and report.scored_on == "val"
    scores = {e["step"]: e["score"] for e in RunDirectory(tmp_path / "run").metrics() if "score" in e}
    assert report.score == max(scores.values()) and scores[report.chosen_step] == report.score
    assert report.interval is not None and report.costs["evaluate"]["images"] == 10 * 12
    ran = {name: cost["flops"] / max(cost["images"], 1) for name, cost in report.costs.items()}
    assert ran["student"] / 5 < ran["evaluate"] < ran["student"] / 2  # forward alone: a third
    from transferset.writes import read_json

    assert read_json(tmp_path / "run" / "labels.json") == list(CHANNELS)


@pytest.mark.parametrize("method", ["task-oriented", "task-agnostic"])
def test_val_that_lacks_most_classes_judges_nothing(
    shards: Path,
    teacher: Path,
    labelled: Path,
    tmp_path: Path,
    method: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The last weights are kept; a classifier that is fitted on labels is judged by folds."""
    data = shutil.copytree(labelled, tmp_path / "data")
    for name in CHANNELS[1:]:
        shutil.rmtree(data / "val" / name)
    report = train(_options(shards, teacher, tmp_path / "run", data=data, method=method))
    assert "val judges nothing, because it has images of only 1 of the 3 classes" in capsys.readouterr().err
    assert report.chosen_step == report.steps
    judged = "cross-validation, 5 folds" if method == "task-agnostic" else None
    assert report.scored_on == judged and (report.score is None) == (judged is None)


def test_a_tar_that_was_replaced_is_refused(
    undisturbed: Path, shards: Path, teacher: Path, tmp_path: Path
) -> None:
    """Same name, members and sizes; other bytes."""
    out = shutil.copytree(undisturbed, tmp_path / "run")
    data = bytearray(shards.read_bytes())
    data[700] ^= 1
    (tmp_path / shards.name).write_bytes(bytes(data))
    with pytest.raises(UsageError, match="samples: other content than there"):
        train(_options(tmp_path / shards.name, teacher, out))


def test_other_weights_under_the_same_name_are_refused(shards: Path, teacher: Path, tmp_path: Path) -> None:
    """A finished run is that of the weights it started from."""
    weights = tmp_path / "weights.safetensors"
    student = f"{TINY.partition('@')[0]}@{weights}"
    plan = Plan(steps=1, batch_size=16)
    for seed in (0, 1):
        torch.manual_seed(seed)
        save_model(timm.create_model("test_efficientnet"), str(weights))
        given = _options(shards, teacher, tmp_path / "run", student=student, plan=plan)
        if seed == 0:
            train(given)
            continue
        with pytest.raises(UsageError, match="start: other content than there"):
            train(given)


def test_other_arguments_and_inputs_are_refused(
    undisturbed: Path, shards: Path, teacher: Path, tmp_path: Path, write_tar: Callable[..., Path]
) -> None:
    with pytest.raises(UsageError, match=r"temperature: 1\.0 there, 2\.0 now"):
        train(_options(shards, teacher, undisturbed, temperature=2.0))
    other = write_tar(tmp_path / "noise.tar", {"a.jpg": b"x"})
    with pytest.raises(UsageError, match="samples: 41 there, 1 now"):
        train(_options(other, teacher, undisturbed))


def test_bad_options_and_data(
    shards: Path, teacher: Path, tmp_path: Path, labelled: Path, write_tar: Callable[..., Path]
) -> None:
    for values in (
        {"method": "magic"},
        {"augment": "x"},
        {"views": -1},
        {"temperature": 0},
        {"labelled_share": 1},
        {"metric": "f1"},
        {"plan": Plan(steps=2, patience=1)},
    ):
        with pytest.raises(UsageError):
            train(_options(shards, teacher, tmp_path / "run", **values))
    rubbish = write_tar(tmp_path / "rubbish.tar", {f"{n}.jpg": b"x" * 100 for n in range(3)})
    with pytest.raises(DataError, match="none of the 3 images"):
        train(_options(rubbish, teacher, tmp_path / "rubbish"))
    strange = tmp_path / "labelled"
    (strange / "val" / "violet").mkdir(parents=True)
    (strange / "val" / "violet" / "a.png").write_bytes((labelled / "val" / "red" / "0.png").read_bytes())
    with pytest.raises(DataError, match="violet"):
        train(_options(shards, teacher, tmp_path / "strange", data=strange))
    with pytest.raises(DataError):
        train(_options(shards, tmp_path / "no teacher", tmp_path / "none"))
