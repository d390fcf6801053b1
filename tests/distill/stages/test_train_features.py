"""`distill train --feature-weight`: the teacher's features count beside its class probabilities."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distill.data.transfer_shards import open_transfer_shards
from distill.loop.checkpoints import read_tensors
from distill.loop.execution import Execution
from distill.loop.plan import Plan
from distill.loop.run_directory import RunDirectory
from distill.models.student import MODEL, open_student
from distill.stages.evaluate import EvaluateOptions, evaluate
from distill.stages.export import export
from distill.stages.export_options import ExportOptions
from distill.stages.label import LabelOptions, label
from distill.stages.train import TrainOptions, train
from distill.stages.train_several import train_several
from tests.distill.stages import killed
from transferset.errors import UsageError

TINY, OTHER = "timm:test_efficientnet@none", "timm:test_resnet@none"
TRAIN_STEP = "distill.loop.trainer:Trainer.train_step"
ONE_THREAD = Execution(device="cpu", threads=1, workers=1)


@pytest.fixture(scope="module")
def shards(
    tmp_path_factory: pytest.TempPathFactory,
    encode: Callable[..., bytes],
    write_tar: Callable[..., Path],
    noise: Callable[..., np.ndarray],
) -> Path:
    members = {f"{n:04d}.jpg": encode(noise(n % 3, 1000 + n)) for n in range(30)}
    return write_tar(tmp_path_factory.mktemp("shards") / "noise.tar", members)


def _options(
    shards: Path, teacher: Path | None, data: Path | None, out: Path, **values: object
) -> TrainOptions:
    plan = Plan(steps=20, batch_size=12, lr=5e-3, checkpoint_every=6, eval_every=5)
    options = TrainOptions((shards,), teacher, TINY, out, data, image_size=32, views=2, runtime="eager")
    options = replace(options, plan=plan, feature_weight=5.0, execution=ONE_THREAD)
    return replace(options, **values)  # type: ignore[arg-type]


def _arguments(shards: Path, teacher: Path, data: Path, out: Path) -> list[object]:
    """The command line of `_options`."""
    return [
        "train", "--shards", shards, "--teacher", teacher, "--student", TINY, "--out", out, "--data", data,
        "--image-size", 32, "--views", 2, "--runtime", "eager", "--steps", 20, "--batch-size", 12,
        "--lr", 5e-3, "--checkpoint-every", 6, "--eval-every", 5, "--feature-weight", 5.0, "--threads", 1,
        "--device", "cpu", "--workers", 1,
    ]  # fmt: skip


def _bits(run: Path) -> bytes:
    return (run / MODEL).read_bytes()


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, shards: Path, teacher: Path, labelled: Path
) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    train(_options(shards, teacher, labelled, out))
    return out


def test_the_student_knows_classes_and_nothing_else(
    undisturbed: Path, shards: Path, teacher: Path, labelled: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    train(_options(shards, teacher, labelled, plain, feature_weight=0.0))
    shapes = [
        {name: one.shape for name, one in read_tensors(run / MODEL).items()} for run in (undisturbed, plain)
    ]
    assert shapes[0] == shapes[1]
    assert _bits(undisturbed) != _bits(plain)
    assert open_student(undisturbed).logits(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 3)
    assert not (undisturbed / "heads").exists()


def test_val_chooses_by_the_classes(undisturbed: Path, labelled: Path) -> None:
    report = json.loads((undisturbed / "report.json").read_text())
    found = evaluate(EvaluateOptions(undisturbed, labelled, "val", execution=ONE_THREAD))
    scores = [entry["score"] for entry in RunDirectory(undisturbed).metrics() if "score" in entry]
    assert len(scores) == 4 and max(scores) == report["score"] == found.metrics["top1"]


def test_the_teacher_looks_at_every_view_once(undisturbed: Path, shards: Path) -> None:
    report = json.loads((undisturbed / "report.json").read_text())
    assert report["costs"]["teacher"]["images"] < report["images_seen"]
    assert report["costs"]["teacher"]["images"] <= 2 * (len(open_transfer_shards((shards,)).samples) + 18)
    assert not list(undisturbed.glob("teacher_outputs*"))


def test_the_card_of_an_export_tells_it(undisturbed: Path, tmp_path: Path) -> None:
    export(ExportOptions(undisturbed, tmp_path / "export"))
    card = (tmp_path / "export" / "README.md").read_text()
    assert "| method | task-oriented, features beside it (weight 5) |" in card


@pytest.mark.parametrize("step", [4, 15])
def test_a_killed_run_ends_with_the_same_bits(
    undisturbed: Path, shards: Path, teacher: Path, labelled: Path, tmp_path: Path, step: int
) -> None:
    given = _arguments(shards, teacher, labelled, tmp_path / "run")
    killed.kill(given, TRAIN_STEP, step + 1)
    assert killed.resume(given, TRAIN_STEP).calls == 20 - step // 6 * 6
    assert _bits(tmp_path / "run") == _bits(undisturbed)


def test_without_labels_the_last_step_is_the_student(shards: Path, teacher: Path, tmp_path: Path) -> None:
    report = train(_options(shards, teacher, None, tmp_path / "run"))
    assert (report.score, report.head, report.chosen_step) == (None, None, 20)


def test_a_head_for_the_labels_stands_beside_it(
    shards: Path, teacher: Path, labelled: Path, tmp_path: Path
) -> None:
    options = _options(shards, teacher, labelled, tmp_path / "run", label_weight=1.0, labelled_share=0.4)
    report = train(options)
    assert report.head in ("teacher", "labels") and report.score is not None
    assert open_student(tmp_path / "run").logits(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 3)


def test_several_students_share_one_pass(
    undisturbed: Path, shards: Path, teacher: Path, labelled: Path, tmp_path: Path
) -> None:
    train_several(_options(shards, teacher, labelled, tmp_path / "runs"), (TINY, OTHER))
    runs = sorted(path for path in (tmp_path / "runs").iterdir() if path.is_dir())
    assert _bits(runs[0]) == _bits(undisturbed)
    assert open_student(runs[1]).logits(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 3)


def test_a_finished_run_can_go_on_with_it(
    undisturbed: Path, shards: Path, teacher: Path, labelled: Path, tmp_path: Path
) -> None:
    """Its classifier is taken over: without a step of any size the answers are the same."""
    plan = Plan(steps=1, batch_size=12, lr=1e-12)
    given = _options(shards, teacher, None, tmp_path / "run", plan=plan)
    train(replace(given, student=None, image_size=None, from_run=undisturbed))
    weights = [read_tensors(run / MODEL) for run in (undisturbed, tmp_path / "run")]
    name = next(name for name in weights[0] if name.startswith("classifier") and name.endswith("weight"))
    assert np.allclose(weights[0][name].numpy(), weights[1][name].numpy(), atol=1e-6)


def test_a_run_with_another_weight_is_refused(
    undisturbed: Path, shards: Path, teacher: Path, labelled: Path
) -> None:
    options = _options(shards, teacher, labelled, undisturbed)
    with pytest.raises(UsageError, match=r"feature_weight: 5\.0 there, 6\.0 now"):
        train(replace(options, feature_weight=6.0))
    with pytest.raises(UsageError, match=r"feature_weight: 5\.0 there, None now"):
        train(replace(options, feature_weight=0.0))


def test_options_that_do_not_fit(shards: Path, teacher: Path, labelled: Path, tmp_path: Path) -> None:
    options = _options(shards, teacher, labelled, tmp_path / "run")
    for values, message in (
        ({"feature_weight": -1.0}, "must not be negative"),
        ({"feature_weight": float("inf")}, "must not be negative or infinite"),
        ({"method": "pseudo-labels"}, "--feature-weight with --method pseudo-labels"),
        ({"method": "task-agnostic"}, "--feature-weight with --method task-agnostic"),
        ({"teacher": (teacher, teacher)}, "2 teachers: features of one"),
        ({"teacher_flip": True}, "averages probabilities only"),
        ({"student": "timm:deit_tiny_distilled_patch16_224@none"}, "no single linear layer"),
    ):
        with pytest.raises(UsageError, match=message):
            train(replace(options, **values))  # type: ignore[arg-type]
    store = tmp_path / "store"
    given = LabelOptions((shards,), teacher, store, views=2, runtime="eager", data=labelled)
    label(replace(given, execution=ONE_THREAD))
    with pytest.raises(UsageError, match="a store holds what the teacher says of classes"):
        train(replace(options, teacher=None, labels_from=store))
