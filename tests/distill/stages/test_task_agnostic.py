"""A student that matches the teacher's features: what it can do with labels, and without."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distill.loop.execution import Execution
from distill.loop.plan import Plan
from distill.loop.run_directory import RunDirectory
from distill.models.student import open_start, open_student
from distill.stages.evaluate import EvaluateOptions, evaluate
from distill.stages.finetune import FinetuneOptions, finetune
from distill.stages.train import TrainOptions, train
from distill.stages.train_several import train_several
from tests.distill.small import CHANNELS, TINY
from tests.distill.stages import killed
from tests.distill.stages.students import weights_sum
from transferset.errors import DataError, UsageError

ONE_THREAD = Execution(device="cpu", threads=1, workers=0)


@pytest.fixture(scope="module")
def shards(noise_tar: Callable[..., Path]) -> Path:
    return noise_tar(24)


def _options(shards: Path, teacher: Path, out: Path, **values: object) -> TrainOptions:
    options = TrainOptions((shards,), teacher, TINY, out, method="task-agnostic", image_size=32, views=2)
    plan = Plan(steps=12, batch_size=8, lr=5e-3, checkpoint_every=5)
    return replace(options, **{"runtime": "eager", "plan": plan, "execution": ONE_THREAD, **values})  # type: ignore[arg-type]


def _arguments(options: TrainOptions) -> list[object]:
    """The command line of `_options`."""
    given: list[object] = ["train", "--shards", options.shards[0], "--teacher", options.teacher]
    given += ["--student", TINY, "--out", options.out, "--method", "task-agnostic", "--image-size", 32]
    given += ["--views", 2, "--runtime", "eager", "--steps", 12, "--batch-size", 8, "--lr", 5e-3]
    given += ["--checkpoint-every", 5, "--threads", 1, "--device", "cpu", "--workers", 0]
    return given if options.data is None else [*given, "--data", options.data]


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory, shards: Path, teacher: Path) -> Path:
    out = tmp_path_factory.mktemp("unlabelled") / "run"
    train(_options(shards, teacher, out))
    return out


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory, shards: Path, teacher: Path, labelled: Path) -> Path:
    out = tmp_path_factory.mktemp("probed") / "run"
    train(_options(shards, teacher, out, data=labelled))
    return out


def test_without_labels_the_run_says_that_it_has_no_classifier(unlabelled: Path) -> None:
    report, config = (json.loads((unlabelled / f"{name}.json").read_text()) for name in ("report", "config"))
    assert (report["score"], report["scored_on"], report["classifier"]) == (None, None, "none")
    assert config["student"]["classifier"] == "none"
    assert config["arguments"]["method"] == "task-agnostic"
    assert config["arguments"]["feature_loss"] == "cosine" and config["arguments"]["temperature"] is None
    losses = [entry["loss"] for entry in RunDirectory(unlabelled).metrics() if "loss" in entry]
    assert losses[-1] < losses[0]
    start = open_start(unlabelled)
    assert start.classes == CHANNELS and not start.has_classifier
    assert start.logits(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 3)
    assert not (unlabelled / "teacher_outputs.npy").exists()


def test_a_run_without_classifier_is_not_evaluated(unlabelled: Path, labelled: Path) -> None:
    with pytest.raises(DataError, match="no classifier yet") as raised:
        open_student(unlabelled)
    assert f"distill finetune --from {unlabelled}" in str(raised.value.hint)
    for split in ("val", "test"):
        with pytest.raises(DataError, match="no classifier yet"):
            evaluate(EvaluateOptions(unlabelled, labelled, split, execution=ONE_THREAD))


def test_with_labels_a_probe_gives_the_classifier(probed: Path, labelled: Path) -> None:
    report = json.loads((probed / "report.json").read_text())
    assert report["classifier"] == "linear probe" and report["scored_on"] == "val"
    assert report["costs"]["probe"]["images"] == 18 + 12 and report["costs"]["probe"]["flops"] > 0
    found = evaluate(EvaluateOptions(probed, labelled, "val", execution=ONE_THREAD))
    assert found.metrics["top1"] == report["score"] >= 0.6
    assert report["interval"] == pytest.approx(found.metrics["top1_interval"])


@pytest.mark.parametrize("step", [3, 8])
def test_a_killed_run_ends_with_the_same_bits(
    probed: Path, shards: Path, teacher: Path, labelled: Path, tmp_path: Path, step: int
) -> None:
    """Killed before the first checkpoint, and between two."""
    given = _arguments(_options(shards, teacher, tmp_path / "run", data=labelled))
    killed.kill(given, killed.TRAIN_STEP, step + 1)
    assert killed.resume(given, killed.TRAIN_STEP).calls == 12 - step // 5 * 5
    assert weights_sum(tmp_path / "run") == weights_sum(probed)


def test_finetuning_fits_the_head_first(unlabelled: Path, labelled: Path, tmp_path: Path) -> None:
    """The probed student is where it starts, and stays if training it ruins it."""
    ruinous = Plan(steps=3, batch_size=8, lr=10.0)
    options = FinetuneOptions(
        labelled, tmp_path / "run", from_run=unlabelled, plan=ruinous, execution=ONE_THREAD
    )
    report = finetune(options)
    assert report.chosen_step == 0 and report.score is not None and report.score >= 0.6
    before, after = open_start(unlabelled).module.state_dict(), open_student(options.out).module.state_dict()
    changed = {name for name in before if not before[name].equal(after[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


def test_folds_judge_a_start_that_has_not_seen_them(unlabelled: Path, labelled: Path, tmp_path: Path) -> None:
    """A run that has matched features knows no classes: those of the labels are its classes."""
    data = tmp_path / "data"
    for name in CHANNELS:
        data.mkdir(exist_ok=True)
        (data / f"dark {name}").symlink_to(labelled / "train" / name)
    options = FinetuneOptions(data, tmp_path / "run", from_run=unlabelled, folds=2, execution=ONE_THREAD)
    report = finetune(replace(options, plan=Plan(steps=2, batch_size=8)))
    assert "cross-validation, 2 folds" in str(report.scored_on) and report.score is not None
    assert open_student(options.out).classes == ("dark blue", "dark green", "dark red")


def test_balanced_accuracy_of_a_probe(
    shards: Path, teacher: Path, labelled: Path, encode: Callable[..., bytes], tmp_path: Path
) -> None:
    """Of the first class nine times as many images as of each other, which no probe can tell from it: always
    saying it would be right for most images and for a third of the classes."""
    grey = np.random.default_rng(0).integers(0, 120, (66, 40, 48, 3), dtype=np.uint8)
    for number, rgb in enumerate(grey):
        label = CHANNELS[max(0, number - 48) // 6]
        (tmp_path / label).mkdir(exist_ok=True)
        (tmp_path / label / f"{number}.png").write_bytes(encode(rgb, "png"))
    scores = {}
    for metric in ("top1", "balanced_accuracy"):
        out = tmp_path.parent / f"{tmp_path.name}-{metric}"
        report = train(_options(shards, teacher, out, data=tmp_path, metric=metric))
        assert report.metric == metric and "cross-validation" in str(report.scored_on)
        assert report.interval is not None and report.interval[0] < report.score < report.interval[1]  # type: ignore[operator]
        scores[metric] = report.score
    assert scores["top1"] > 0.7 and scores["balanced_accuracy"] < 0.6


@pytest.mark.parametrize("loss", ["smooth-l1", "contrastive"])
def test_other_feature_losses(shards: Path, teacher: Path, tmp_path: Path, loss: str) -> None:
    out = tmp_path / "run"
    options = _options(shards, teacher, out, feature_loss=loss, views=0)
    train(options)
    losses = [entry["loss"] for entry in RunDirectory(out).metrics() if "loss" in entry]
    assert losses[-1] < losses[0]
    with pytest.raises(UsageError, match=f"feature_loss: {loss} there, cosine now"):
        train(replace(options, feature_loss=None))


def test_patches(shards: Path, teacher: Path, labelled: Path, tmp_path: Path) -> None:
    """A teacher of 48 pixels and a student of 64 have grids of 2 x 2."""
    out = tmp_path / "run"
    options = _options(shards, teacher, out, feature_loss="patches", image_size=64, data=labelled)
    report = train(options)
    losses = [entry["loss"] for entry in RunDirectory(out).metrics() if "loss" in entry]
    assert losses[-1] < losses[0]
    assert report.classifier == "linear probe" and report.costs["teacher"]["images"] == 2 * (24 + 18)
    student = open_student(out)
    assert student.classes == CHANNELS
    assert student.logits(np.zeros((1, 64, 64, 3), np.uint8)).shape == (1, 3)
    config = json.loads((out / "config.json").read_text())
    assert config["student"]["parameters"] == sum(p.numel() for p in student.module.parameters())
    given = _arguments(replace(options, out=tmp_path / "killed"))
    given[given.index("--image-size") + 1] = 64
    given += ["--feature-loss", "patches"]
    killed.kill(given, killed.TRAIN_STEP, 9)
    assert killed.resume(given, killed.TRAIN_STEP).calls == 12 - 5
    assert weights_sum(tmp_path / "killed") == weights_sum(out)


def test_patches_need_a_grid_on_both_sides(shards: Path, teacher: Path, tmp_path: Path) -> None:
    options = _options(shards, teacher, tmp_path / "run", feature_loss="patches", image_size=None)
    with pytest.raises(UsageError, match="coat_lite_tiny@none gives no grid"):
        train(replace(options, student="timm:coat_lite_tiny@none"))
    with pytest.raises(UsageError, match="has one place for images of 32 pixels"):
        train(replace(options, image_size=32))
    with pytest.raises(UsageError, match="--head-epochs and --backbone-lr-scale with --feature-loss patches"):
        train(replace(options, student="embedded", head_epochs=1.0))
    with pytest.raises(UsageError, match="each has a grid of its own"):
        train_several(options, (TINY, "timm:test_resnet@none"))


def test_pseudo_labels(shards: Path, teacher: Path, labelled: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    report = train(_options(shards, teacher, out, method="pseudo-labels", data=labelled))
    assert report.scored_on == "val" and report.classifier == "trained"
    assert json.loads((out / "config.json").read_text())["arguments"]["method"] == "pseudo-labels"


def test_options_that_do_not_fit(shards: Path, teacher: Path, labelled: Path, tmp_path: Path) -> None:
    one = Plan(steps=2, batch_size=1)
    parted = Plan(steps=2, batch_size=8, accumulate=2)
    patient = Plan(steps=2, batch_size=8, patience=2)
    for values, message in (
        ({"feature_loss": "contrastive", "plan": one}, "--batch-size 1 with --feature-loss contrastive"),
        ({"feature_loss": "contrastive", "plan": parted}, "--accumulate 2 with --feature-loss contrastive"),
        ({"plan": patient}, "--patience with --method task-agnostic"),
        ({"method": "pseudo-labels", "feature_loss": "cosine"}, "--feature-loss"),
    ):
        with pytest.raises(UsageError, match=message):
            train(_options(shards, teacher, tmp_path / "run", **values))
    with pytest.raises(DataError, match="lacks training images of 3"):
        train(_options(shards, teacher, tmp_path / "val only", data=_only_val(labelled, tmp_path / "data")))


def _only_val(labelled: Path, to: Path) -> Path:
    to.mkdir()
    (to / "val").symlink_to(labelled / "val")
    return to
