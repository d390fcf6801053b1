"""`distill train --feature-weight`: beside its class probabilities a student matches the teacher's features,
through a projection that the final student does not have."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.cli import app
from distill.data.batches import Batch, ViewPlan
from distill.data.views import augmentation
from distill.loop.checkpoints import read_tensors
from distill.loop.plan import Plan
from distill.loop.run_directory import RunDirectory
from distill.loop.trainer import Trainer
from distill.methods.transfer import transfer_method
from distill.models.joint_heads import Head, side_by_side
from distill.models.joint_start import with_heads
from distill.models.student import Student, open_student
from distill.models.teacher import open_teacher
from distill.stages.evaluate import EvaluateOptions, evaluate
from distill.stages.export import export
from distill.stages.export_options import ExportOptions
from distill.stages.train import TrainOptions, train
from distill.stages.train_several import run_path, train_several
from distill.teaching.online import OnlineTeaching
from tests.distill.small import CHANNELS, ONE_THREAD, TINY
from tests.distill.stages import killed
from tests.distill.stages.students import weights_sum
from transferset.entry_point import run_cli
from transferset.errors import UsageError

OTHER = "timm:test_resnet@none"
STEPS = 20


@pytest.fixture(scope="module")
def shards(noise_tar: Callable[..., Path]) -> Path:
    return noise_tar(30)


def _options(shards: Path, teacher: Path, out: Path, **values: object) -> TrainOptions:
    plan = Plan(steps=STEPS, batch_size=12, lr=5e-3, checkpoint_every=6, eval_every=5)
    options = TrainOptions((shards,), teacher, TINY, out, image_size=32, views=3, runtime="eager", plan=plan)
    return replace(options, **{"feature_weight": 2.0, "execution": ONE_THREAD, **values})  # type: ignore[arg-type]


def _arguments(shards: Path, teacher: Path, data: Path, out: Path) -> list[object]:
    """The command line of `_options` with labelled images."""
    return [
        "train", "--shards", shards, "--teacher", teacher, "--student", TINY, "--out", out, "--data", data,
        "--image-size", 32, "--views", 3, "--runtime", "eager", "--steps", STEPS, "--batch-size", 12,
        "--lr", 5e-3, "--checkpoint-every", 6, "--eval-every", 5, "--feature-weight", 2.0,
        "--threads", 1, "--device", "cpu", "--workers", 1,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, shards: Path, teacher: Path, labelled: Path
) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    train(_options(shards, teacher, out, data=labelled))
    return out


def _trained_with(run: Path) -> Student:
    """The student as it was at the chosen step, with the projection."""
    weights = read_tensors(next((run / "checkpoints").glob("best-*.safetensors")))
    width = len(weights["classifier.bias"]) - len(CHANNELS)
    heads = side_by_side([Head("teacher", CHANNELS), Head("features", (), features=width)])
    student = with_heads(open_student(run), heads, 0)
    student.module.load_state_dict(weights)
    return student


def test_the_final_student_has_no_projection(undisturbed: Path, teacher: Path) -> None:
    student, images = open_student(undisturbed), np.zeros((1, 32, 32, 3), np.uint8)
    assert student.classes == CHANNELS and student.logits(images).shape == (1, 3)
    kept = read_tensors(undisturbed / "model.safetensors")
    assert {len(kept[name]) for name in ("classifier.weight", "classifier.bias")} == {3}
    with_projection = _trained_with(undisturbed).logits(images)
    assert with_projection.shape == (1, 3 + open_teacher(teacher, runtime="eager").model.dimension)
    assert np.allclose(with_projection[:, :3], student.logits(images), atol=1e-5)
    assert json.loads((undisturbed / "config.json").read_text())["student"]["parameters"] == sum(
        parameter.numel() for parameter in student.module.parameters()
    )
    assert not (undisturbed / "heads").exists() and not list(undisturbed.glob("teacher_outputs*"))


def test_the_card_of_an_export_tells_it(undisturbed: Path, tmp_path: Path) -> None:
    export(ExportOptions(undisturbed, tmp_path / "export"))
    card = (tmp_path / "export" / "README.md").read_text()
    assert "| method | task-oriented, with features (weight 2) |" in card


def test_the_projection_learns_the_teachers_features(
    undisturbed: Path, teacher: Path, noise: Callable[..., np.ndarray]
) -> None:
    images = [Image.fromarray(noise(channel, 2000)) for channel in range(3)]
    small, large = (np.stack([np.asarray(one.resize((s, s))) for one in images]) for s in (32, 48))
    features = open_teacher(teacher, runtime="eager").model(large)
    projected = _trained_with(undisturbed).logits(small)[:, 3:]
    assert _cosines(projected, features).min() > 0.5
    assert abs(_cosines(projected[:, ::-1], features)).max() < 0.5, "which chance would not give"


def _cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray((one * other).sum(axis=1) / norms)


def test_val_scores_the_class_head(undisturbed: Path, labelled: Path) -> None:
    report = json.loads((undisturbed / "report.json").read_text())
    assert report["head"] is None and report["scored_on"] == "val"
    found = evaluate(EvaluateOptions(undisturbed, labelled, "val", execution=ONE_THREAD))
    assert found.metrics["top1"] == report["score"]
    scores = [entry["score"] for entry in RunDirectory(undisturbed).metrics() if "score" in entry]
    assert len(scores) == 4 and max(scores) == report["score"]


def test_a_killed_run_ends_with_the_same_bits(
    undisturbed: Path, shards: Path, teacher: Path, labelled: Path, tmp_path: Path
) -> None:
    """Some views have been looked at before the kill, others not; features are kept in half the bytes."""
    out = tmp_path / "run"
    given = _arguments(shards, teacher, labelled, out)
    killed.kill(given, killed.TRAIN_STEP, 10)
    logits, features = (np.load(out / f"teacher_outputs{part}.npy") for part in ("", "-halved"))
    assert (logits.dtype, logits.shape[1], features.dtype) == (np.float32, 3, np.float16)
    assert killed.resume(given, killed.TRAIN_STEP).calls == STEPS - 6
    assert weights_sum(out) == weights_sum(undisturbed)


def test_lost_features_are_computed_again(
    undisturbed: Path,
    shards: Path,
    teacher: Path,
    labelled: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step = Trainer.train_step

    def stops(self: Trainer, batch: Batch) -> None:
        if self.at.step == 15:
            raise KeyboardInterrupt
        step(self, batch)

    monkeypatch.setattr(Trainer, "train_step", stops)
    options = _options(shards, teacher, tmp_path / "run", data=labelled)
    with pytest.raises(KeyboardInterrupt):
        train(options)
    monkeypatch.undo()
    (tmp_path / "run" / "teacher_outputs-halved.npy").unlink()
    train(options)
    assert weights_sum(tmp_path / "run") == weights_sum(undisturbed)


def test_without_labels_the_last_step_is_the_student(shards: Path, teacher: Path, tmp_path: Path) -> None:
    report = train(_options(shards, teacher, tmp_path / "run"))
    assert (report.score, report.head, report.chosen_step) == (None, None, STEPS)


def test_each_of_several_students_is_what_it_becomes_alone(
    shards: Path, teacher: Path, tmp_path: Path
) -> None:
    options, students = _options(shards, teacher, tmp_path / "runs"), (TINY, OTHER)
    together = train_several(options, students)
    for number, spec in enumerate(students):
        train(replace(options, student=spec, out=tmp_path / spec))
        assert weights_sum(run_path(tmp_path / "runs", number, spec)) == weights_sum(tmp_path / spec)
    assert together[0].costs["teacher"]["images"] == 3 * 30 and "teacher" not in together[1].costs


def test_beside_a_head_for_the_labels(shards: Path, teacher: Path, labelled: Path, tmp_path: Path) -> None:
    """Also with a temperature, new views in every epoch, and steps in parts."""
    plan = Plan(steps=STEPS, batch_size=12, lr=5e-3, accumulate=2)
    more = {"labelled_share": 0.4, "label_weight": 1.0, "temperature": 2.0, "views": 0, "plan": plan}
    report = train(_options(shards, teacher, tmp_path / "run", data=labelled, **more))
    assert report.head in ("teacher", "labels") and report.score is not None
    assert open_student(tmp_path / "run").logits(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 3)
    trained = read_tensors(next((tmp_path / "run" / "checkpoints").glob("best-*.safetensors")))
    dimension = open_teacher(teacher, runtime="eager").model.dimension
    assert len(trained["classifier.bias"]) == 3 + dimension + 3


def test_a_run_goes_on_with_its_classifier(
    undisturbed: Path, shards: Path, teacher: Path, tmp_path: Path, noise: Callable[..., np.ndarray]
) -> None:
    plan = Plan(steps=1, batch_size=12, lr=1e-9)
    start = {"student": None, "image_size": None, "from_run": undisturbed, "plan": plan}
    train(_options(shards, teacher, tmp_path / "run", **start))
    images = np.stack([noise(channel, 7)[:32, :32] for channel in range(3)])
    before, after = (open_student(run).logits(images) for run in (undisturbed, tmp_path / "run"))
    assert np.allclose(before, after, atol=0.2) and (before.argmax(axis=1) == after.argmax(axis=1)).all()


def test_without_weight_a_run_is_what_it_was(shards: Path, teacher: Path, tmp_path: Path) -> None:
    """Its teacher is asked for logits alone, and config.json of an older version is that of the same run."""
    method = transfer_method("task-oriented", temperature=None, feature_loss=None)
    plan = ViewPlan(augmentation("standard"), 0, 12, 3)
    teaching = OnlineTeaching(open_teacher(teacher, runtime="eager"), method, plan)
    assert teaching.width == 3 and teaching.loss(method) is method.loss
    assert teaching.heads == (Head("teacher", CHANNELS),)
    options = _options(shards, teacher, tmp_path / "run", feature_weight=0.0)
    train(options)
    before = weights_sum(tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    del config["arguments"]["feature_weight"]
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    (tmp_path / "run" / "report.json").unlink()
    train(options)
    assert weights_sum(tmp_path / "run") == before


def test_a_run_with_another_weight_is_refused(
    undisturbed: Path, shards: Path, teacher: Path, labelled: Path
) -> None:
    for weight, told in ((0.5, "0.5"), (0.0, "none")):
        with pytest.raises(UsageError, match=f"feature_weight: 2.0 there, {told} now"):
            train(_options(shards, teacher, undisturbed, data=labelled, feature_weight=weight))


def test_options_that_do_not_fit(shards: Path, teacher: Path, tmp_path: Path) -> None:
    options = _options(shards, teacher, tmp_path / "run")
    for values, message in (
        ({"feature_weight": -1.0}, "must not be negative or infinite"),
        ({"feature_weight": float("inf")}, "must not be negative or infinite"),
        ({"feature_weight": float("nan")}, "must not be negative or infinite"),
        ({"method": "pseudo-labels"}, "--feature-weight with --method pseudo-labels"),
        ({"method": "task-agnostic"}, "--feature-weight with --method task-agnostic"),
        ({"teacher": (teacher, teacher)}, "with 2 teachers"),
        ({"teacher": (teacher, teacher), "combine": "heads"}, "with 2 teachers"),
        ({"student": "timm:deit_tiny_distilled_patch16_224@none"}, "not a single linear layer"),
    ):
        with pytest.raises(UsageError, match=message):
            train(replace(options, **values))  # type: ignore[arg-type]


def test_what_is_no_weight_is_usage(
    shards: Path, teacher: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(argument) for argument in _arguments(shards, teacher, labelled, tmp_path / "run")]
    place = given.index("--feature-weight") + 1
    for weight in ("-1", "nan", "much"):
        with pytest.raises(SystemExit) as ended:
            run_cli(app, [*given[:place], weight, *given[place + 1 :]])
        assert ended.value.code == 2 and "--feature-weight" in capsys.readouterr().err
    assert not (tmp_path / "run" / "config.json").exists()
