"""`distill train --label-weight`: labelled images teach by their labels too, through a head of their own."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distill.loop.plan import Plan
from distill.loop.run_directory import RunDirectory
from distill.models.student import open_student
from distill.stages.evaluate import EvaluateOptions, evaluate
from distill.stages.label import LabelOptions, label
from distill.stages.train import TrainOptions, train
from distill.stages.train_several import train_several
from tests.distill.small import CHANNELS, ONE_THREAD, TINY
from tests.distill.stages import killed
from tests.distill.stages.students import weights_sum
from transferset.errors import DataError, UsageError


@pytest.fixture(scope="module")
def shards(noise_tar: Callable[..., Path]) -> Path:
    return noise_tar(30)


def _options(shards: Path, teacher: Path | None, data: Path, out: Path, **values: object) -> TrainOptions:
    plan = Plan(steps=20, batch_size=12, lr=5e-3, checkpoint_every=6, eval_every=5)
    options = TrainOptions((shards,), teacher, TINY, out, data, image_size=32, views=3, runtime="eager")
    options = replace(options, plan=plan, labelled_share=0.4, label_weight=1.0, execution=ONE_THREAD)
    return replace(options, **values)  # type: ignore[arg-type]


def _arguments(shards: Path, teacher: Path, data: Path, out: Path) -> list[object]:
    """The command line of `_options`."""
    return [
        "train", "--shards", shards, "--teacher", teacher, "--student", TINY, "--out", out, "--data", data,
        "--image-size", 32, "--views", 3, "--runtime", "eager", "--steps", 20, "--batch-size", 12,
        "--lr", 5e-3, "--checkpoint-every", 6, "--eval-every", 5, "--labelled-share", 0.4,
        "--label-weight", 1.0, "--threads", 1, "--device", "cpu", "--workers", 1,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, shards: Path, teacher: Path, labelled: Path
) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    train(_options(shards, teacher, labelled, out))
    return out


def test_the_better_head_on_val_is_kept(undisturbed: Path, labelled: Path) -> None:
    report = json.loads((undisturbed / "report.json").read_text())
    assert report["head"] in ("teacher", "labels") and report["scored_on"] == "val"
    student = open_student(undisturbed)
    assert student.classes == CHANNELS
    assert student.logits(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 3)
    found = evaluate(EvaluateOptions(undisturbed, labelled, "val", execution=ONE_THREAD))
    assert found.metrics["top1"] == report["score"]
    scores = [entry["score"] for entry in RunDirectory(undisturbed).metrics() if "score" in entry]
    assert len(scores) == 4 and max(scores) == report["score"]


@pytest.mark.parametrize("step", [4, 15])
def test_a_killed_run_ends_with_the_same_bits(
    undisturbed: Path, shards: Path, teacher: Path, labelled: Path, tmp_path: Path, step: int
) -> None:
    given = _arguments(shards, teacher, labelled, tmp_path / "run")
    killed.kill(given, killed.TRAIN_STEP, step + 1)
    assert killed.resume(given, killed.TRAIN_STEP).calls == 20 - step // 6 * 6
    assert weights_sum(tmp_path / "run") == weights_sum(undisturbed)


def test_labels_against_the_teacher(shards: Path, teacher: Path, labelled: Path, tmp_path: Path) -> None:
    """Labels that say the opposite of the teacher: each head learns its own, and val decides."""
    contrary = tmp_path / "contrary"
    renamed = {"blue": "green", "green": "red", "red": "blue"}
    for split in ("train", "val"):
        (contrary / split).mkdir(parents=True)
        for name, other in renamed.items():
            (contrary / split / other).symlink_to(labelled / split / name)
    plan = Plan(steps=60, batch_size=24, lr=1e-2)
    given = _options(shards, teacher, contrary, tmp_path / "run", plan=plan, label_weight=2.0)
    report = train(given)
    assert report.head == "labels" and report.score is not None and report.score >= 0.6
    faithful = train(
        replace(given, out=tmp_path / "val of the teacher", data=_mixed(contrary, labelled, tmp_path))
    )
    assert faithful.head == "teacher" and faithful.score is not None and faithful.score >= 0.6


def _mixed(train_images: Path, val_images: Path, tmp_path: Path) -> Path:
    to = tmp_path / "mixed"
    to.mkdir()
    (to / "train").symlink_to(train_images / "train")
    (to / "val").symlink_to(val_images / "val")
    return to


def test_without_val_the_teachers_head_stays(
    shards: Path, teacher: Path, labelled: Path, tmp_path: Path
) -> None:
    report = train(_options(shards, teacher, labelled / "train", tmp_path / "run"))
    assert (report.head, report.score) == ("teacher", None)


def test_from_a_store_and_for_several_students(
    shards: Path, teacher: Path, labelled: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    given = LabelOptions((shards,), teacher, store, views=3, runtime="eager", data=labelled)
    label(replace(given, labelled_share=0.4, execution=ONE_THREAD))
    options = _options(shards, None, labelled, tmp_path / "runs", labels_from=store)
    reports = train_several(options, (TINY, "timm:test_resnet@none"))
    assert all(report.head is not None and report.score is not None for report in reports)


def test_a_run_with_another_weight_or_other_labels_is_refused(
    undisturbed: Path, shards: Path, teacher: Path, labelled: Path, tmp_path: Path
) -> None:
    options = _options(shards, teacher, labelled, undisturbed)
    with pytest.raises(UsageError, match=r"label_weight: 1\.0 there, 2\.0 now"):
        train(replace(options, label_weight=2.0))
    with pytest.raises(UsageError, match=r"label_weight: 1\.0 there, none now"):
        train(replace(options, label_weight=0.0))


def test_options_that_do_not_fit(shards: Path, teacher: Path, labelled: Path, tmp_path: Path) -> None:
    options = _options(shards, teacher, labelled, tmp_path / "run")
    for values, message in (
        ({"data": None}, "without labelled images"),
        ({"labelled_share": 0.0}, "without labelled images"),
        ({"label_weight": -1.0}, "must not be negative"),
        ({"method": "task-agnostic"}, "fitted on the labels anyway"),
        ({"student": "timm:deit_tiny_distilled_patch16_224@none"}, "not a single linear layer"),
    ):
        with pytest.raises(UsageError, match=message):
            train(replace(options, **values))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no labelled training image"):
        train(replace(options, data=labelled / "train" / "red"))
    (tmp_path / "strange" / "violet").mkdir(parents=True)
    (tmp_path / "strange" / "violet" / "a.png").symlink_to(labelled / "val" / "red" / "0.png")
    with pytest.raises(DataError, match="violet not among the 3 classes of the teacher"):
        train(replace(options, data=tmp_path / "strange"))
