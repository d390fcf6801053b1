import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.data.batches import Batch
from distill.loop.plan import Plan
from distill.loop.run_directory import RunDirectory
from distill.loop.trainer import Trainer
from distill.models.student import open_student
from distill.stages.evaluate import EvaluateOptions, evaluate
from distill.stages.finetune import FinetuneOptions, finetune
from tests.distill.small import ONE_THREAD, TINY
from tests.distill.stages import killed
from transferset.errors import DataError, UsageError


@pytest.fixture
def shades(tmp_path: Path, encode: Callable[..., bytes]) -> Path:
    """Three classes that a tiny model learns in seconds: red, green and blue noise; val lacks blue."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 5)):
        for channel, label in enumerate(("red", "green", "blue")):
            if (split, label) != ("val", "blue"):
                folder = tmp_path / "data" / split / label
                folder.mkdir(parents=True)
                for number in range(count):
                    rgb = rng.integers(0, 120, (40, 48, 3), dtype=np.uint8)
                    rgb[..., channel] += 60
                    (folder / f"{number}.jpg").write_bytes(encode(rgb))
    return tmp_path / "data"


def _options(data: Path, out: Path, **values: object) -> FinetuneOptions:
    plan = values.pop("plan", Plan(steps=40, batch_size=16, lr=5e-3))
    start = {} if "from_run" in values else {"student": TINY, "image_size": 32}
    return FinetuneOptions(data, out, plan=plan, execution=ONE_THREAD, **start, **values)  # type: ignore[arg-type]


def test_labels_only_with_val(shades: Path, tmp_path: Path) -> None:
    report = finetune(_options(shades, tmp_path / "run"))
    assert report.score is not None and report.score >= 0.9 and report.scored_on == "val"
    assert report.interval is not None and report.interval[0] < report.score <= report.interval[1]
    assert report.images_seen == 40 * 16 and report.costs["student"]["flops"] > 0
    assert report.costs["evaluate"]["flops"] > 0
    student = open_student(tmp_path / "run")
    assert student.classes == ("blue", "green", "red") and student.preprocessing.size == 32
    scores = [entry["score"] for entry in RunDirectory(tmp_path / "run").metrics() if "score" in entry]
    assert len(scores) == 10 and report.score == max(scores)


def test_it_never_loses_to_what_it_starts_from(shades: Path, tmp_path: Path) -> None:
    first = finetune(_options(shades, tmp_path / "first"))
    ruinous = Plan(steps=10, batch_size=16, lr=10.0)
    second = finetune(_options(shades, tmp_path / "second", from_run=tmp_path / "first", plan=ruinous))
    assert second.score is not None and first.score is not None and second.score >= first.score
    before, after = (open_student(tmp_path / name).module.state_dict() for name in ("first", "second"))
    assert second.chosen_step == 0
    assert all(before[name].equal(after[name]) for name in before)


def test_labels_without_splits_are_cross_validated(shades: Path, tmp_path: Path) -> None:
    report = finetune(_options(shades / "train", tmp_path / "run", folds=3))
    assert report.score is not None and report.score >= 0.8 and report.chosen_step > 0
    assert "cross-validation, 3 folds" in str(report.scored_on) and report.interval is not None
    assert report.images_seen == (3 * 40 + report.chosen_step) * 16
    parts = {entry.get("part") for entry in RunDirectory(tmp_path / "run").metrics()}
    assert parts == {None, "fold-0", "fold-1", "fold-2"}
    assert not list((tmp_path / "run" / "checkpoints").glob("fold-*"))
    again = finetune(_options(shades / "train", tmp_path / "run", folds=3))
    assert again == report


def test_one_image_of_a_class_is_enough(shades: Path, tmp_path: Path) -> None:
    for path in sorted((shades / "train" / "red").iterdir())[1:]:
        path.unlink()
    report = finetune(_options(shades / "train", tmp_path / "run", plan=Plan(steps=4, batch_size=8)))
    assert report.score is not None


def test_a_class_of_one_image_is_never_held_out(
    shades: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in sorted((shades / "train" / "red").iterdir())[1:]:
        path.unlink()
    learnt = []

    def looked(labels: np.ndarray, classes: int) -> np.ndarray:
        learnt.append(set(labels.tolist()))
        return np.ones(classes, np.float32)

    monkeypatch.setattr("distill.stages.finetune.balanced_weights", looked)
    plan = Plan(steps=1, batch_size=8)
    finetune(_options(shades / "train", tmp_path / "run", plan=plan, folds=3, class_balanced=True))
    assert learnt == [{0, 1, 2}] * 4, "in every fold, and at the end"


def test_one_image_of_every_class_cannot_be_judged_by(shades: Path, tmp_path: Path) -> None:
    for folder in (shades / "train").iterdir():
        for path in sorted(folder.iterdir())[1:]:
            path.unlink()
    options = _options(shades / "train", tmp_path / "run", plan=Plan(steps=4, batch_size=8))
    with pytest.raises(DataError, match="nothing can be held out"):
        finetune(options)
    assert finetune(replace(options, folds=0)).chosen_step == 4


@pytest.mark.parametrize(("folds", "instead"), [(2, "cross-validation does"), (0, "all steps are kept")])
def test_val_that_lacks_most_classes_does_not_choose(
    shades: Path, tmp_path: Path, folds: int, instead: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(shades / "val" / "green")
    plan = Plan(steps=4, batch_size=8)
    report = finetune(_options(shades, tmp_path / "run", plan=plan, folds=folds))
    told = f"val does not choose the step, because it has images of only 1 of the 3 classes: {instead}"
    assert told in capsys.readouterr().err
    assert ("cross-validation" in str(report.scored_on)) == bool(folds)


def test_a_single_class_is_nothing_to_learn(shades: Path, tmp_path: Path) -> None:
    for label in ("green", "blue"):
        shutil.rmtree(shades / "train" / label)
    with pytest.raises(DataError, match="has a single class, red: there is nothing to tell apart"):
        finetune(_options(shades / "train", tmp_path / "run"))


def test_a_run_of_other_labels_is_refused(shades: Path, tmp_path: Path) -> None:
    """The same files in the same order, sorted otherwise."""
    for split in ("train", "val"):
        for label in ("blue", "green", "red"):
            for path in sorted((shades / split).glob(f"{label}/*")):
                path.rename(path.with_name(f"{label}-{path.name}"))
    options = _options(shades, tmp_path / "run", plan=Plan(steps=2, batch_size=8))
    finetune(options)
    for split, name in (("val", "green/green-0.jpg"), ("train", "blue/blue-7.jpg")):
        there = shades / split / name
        moved = there.parent.parent / {"green": "blue", "blue": "green"}[there.parent.name] / there.name
        moved.parent.mkdir(exist_ok=True)
        there.rename(moved)
        with pytest.raises(UsageError, match=f"{split}: other content than there"):
            finetune(options)
        moved.rename(there)
        if not any(moved.parent.iterdir()):
            moved.parent.rmdir()
    assert finetune(options).chosen_step == finetune(options).chosen_step


def test_another_image_under_the_same_name_is_refused(shades: Path, tmp_path: Path) -> None:
    """Of the same size on disk."""
    image = shades / "train" / "red" / "0.jpg"
    options = _options(shades, tmp_path / "run", plan=Plan(steps=2, batch_size=8))
    for shade in (10, 11):
        Image.new("RGB", (48, 48), (shade, 0, 0)).save(image, "png", compress_level=0)
        if shade == 10:
            finetune(options)
    with pytest.raises(UsageError, match="data: other content than there"):
        finetune(options)


def test_without_folds_nothing_is_claimed(shades: Path, tmp_path: Path) -> None:
    report = finetune(_options(shades / "train", tmp_path / "run", folds=0, plan=Plan(steps=4, batch_size=8)))
    assert (report.score, report.scored_on, report.interval, report.chosen_step) == (None, None, None, 4)


def test_an_unreadable_image_is_left_out_and_counted(shades: Path, tmp_path: Path) -> None:
    (shades / "train" / "red" / "0.jpg").write_bytes(b"")
    assert finetune(_options(shades, tmp_path / "run", plan=Plan(steps=2, batch_size=8))).dropped == 1


def test_an_image_that_vanishes_is_missed_and_not_replaced(
    shades: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, step = Plan(steps=9, batch_size=8, checkpoint_every=2), Trainer.train_step
    options = _options(shades, tmp_path / "run", plan=plan)
    options = replace(options, execution=replace(ONE_THREAD, cache_mb=0))
    whole = finetune(replace(options, out=tmp_path / "whole"))

    def lose(self: Trainer, batch: Batch) -> None:
        if self.at.step == 4 and (shades / "train" / "red").exists():
            (shades / "train" / "red").rename(tmp_path / "red")
        step(self, batch)

    monkeypatch.setattr(Trainer, "train_step", lose)
    with pytest.raises(DataError, match=r"red/\d\.jpg cannot be read") as told:
        finetune(options)
    assert "put it back" in str(told.value.hint)
    monkeypatch.undo()
    (tmp_path / "red").rename(shades / "train" / "red")
    assert finetune(options).score == whole.score
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "whole")]
    assert models[0] == models[1]


def test_a_start_with_other_classes_is_refused(shades: Path, tmp_path: Path) -> None:
    short = Plan(steps=2, batch_size=8)
    finetune(_options(shades, tmp_path / "first", plan=short))
    (shades / "train" / "red").rename(shades / "train" / "rouge")
    with pytest.raises(DataError, match="red"):
        finetune(_options(shades, tmp_path / "second", from_run=tmp_path / "first", plan=short))


def test_options_that_do_not_fit(shades: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--from a run or from a --student"):
        finetune(FinetuneOptions(shades, tmp_path / "run"))
    with pytest.raises(UsageError, match="image-size"):
        finetune(FinetuneOptions(shades, tmp_path / "run", from_run=tmp_path, image_size=64))
    with pytest.raises(UsageError, match="folds"):
        finetune(_options(shades, tmp_path / "run", folds=1))
    with pytest.raises(UsageError, match="--patience without a val split"):
        finetune(_options(shades / "train", tmp_path / "run", plan=Plan(steps=2, patience=1)))
    finetune(_options(shades, tmp_path / "run", plan=Plan(steps=2, batch_size=8)))
    with pytest.raises(UsageError, match="steps: 2 there, 3 now"):
        finetune(_options(shades, tmp_path / "run", plan=Plan(steps=3, batch_size=8)))


@pytest.mark.parametrize("count", [13, 26])
def test_a_killed_run_ends_with_the_same_bits(shades: Path, tmp_path: Path, count: int) -> None:
    """Killed in the second fold, and while the final student is trained; whole folds are not done again."""
    plan = Plan(steps=8, batch_size=8, lr=5e-3, checkpoint_every=3)
    data, out = shades / "train", tmp_path / "run"
    whole = finetune(_options(data, tmp_path / "whole", folds=3, plan=plan))
    given = ["finetune", "--data", data, "--student", TINY, "--image-size", 32, "--out", out, "--folds", 3]
    given += ["--steps", 8, "--batch-size", 8, "--lr", 5e-3, "--checkpoint-every", 3, "--threads", 1]
    given += ["--device", "cpu", "--json"]
    killed.kill(given, killed.TRAIN_STEP, count)
    resumed = killed.resume(given, killed.TRAIN_STEP)
    report = json.loads(resumed.stdout)
    assert (report["score"], report["chosen_step"]) == (whole.score, whole.chosen_step)
    assert resumed.calls <= 3 * 8 + whole.chosen_step - count + 1 + 3
    models = [(run / "model.safetensors").read_bytes() for run in (out, tmp_path / "whole")]
    assert models[0] == models[1]


@pytest.fixture
def transferred(shades: Path, tmp_path: Path) -> Path:
    """A run to start from."""
    finetune(_options(shades, tmp_path / "transferred", plan=Plan(steps=20, batch_size=16, lr=5e-3)))
    return tmp_path / "transferred"


def test_gentle_finetuning(shades: Path, transferred: Path, tmp_path: Path) -> None:
    """Head first, then all with a slower backbone, staying with what the start said."""
    gentle: dict[str, object] = {"head_epochs": 1.5, "backbone_lr_scale": 0.1, "retention": 2.0}
    plan = Plan(steps=4, batch_size=8, lr=1e-3, checkpoint_every=2)
    options = _options(shades, tmp_path / "run", from_run=transferred, plan=plan, **gentle)
    report = finetune(options)
    assert report.steps == 5 + 4, "24 images, 1.5 times, 8 a step"
    assert report.costs["retention"]["images"] == 9 * 8 and report.costs["retention"]["flops"] > 0
    arguments = json.loads((tmp_path / "run" / "config.json").read_text())["arguments"]
    assert arguments["head"] == {"steps": 5, "backbone_lr_scale": 0.1} and arguments["retention"] == 2.0
    with pytest.raises(UsageError, match=r"retention: 2\.0 there, 1\.0 now"):
        finetune(replace(options, retention=1.0))


def test_a_killed_gentle_run_ends_with_the_same_bits(shades: Path, transferred: Path, tmp_path: Path) -> None:
    """Killed after the head's own steps."""
    gentle: dict[str, object] = {"head_epochs": 0.9, "backbone_lr_scale": 0.1, "retention": 2.0, "folds": 0}
    plan = Plan(steps=3, batch_size=8, lr=1e-3, checkpoint_every=2)
    data = shades / "train"
    finetune(_options(data, tmp_path / "whole", from_run=transferred, plan=plan, **gentle))
    given = ["finetune", "--data", data, "--from", transferred, "--out", tmp_path / "killed", "--steps", 3]
    given += ["--batch-size", 8, "--lr", 1e-3, "--checkpoint-every", 2, "--threads", 1, "--device", "cpu"]
    given += ["--head-epochs", 0.9, "--backbone-lr-scale", 0.1, "--retention", 2.0, "--folds", 0]
    killed.kill(given, killed.TRAIN_STEP, 6)
    assert killed.resume(given, killed.TRAIN_STEP).calls == 6 - 4
    models = [(run / "model.safetensors").read_bytes() for run in (tmp_path / "whole", tmp_path / "killed")]
    assert models[0] == models[1] != (transferred / "model.safetensors").read_bytes()


def test_rare_classes_count_as_much(shades: Path, transferred: Path, tmp_path: Path) -> None:
    for path in sorted((shades / "train" / "red").iterdir())[2:]:
        path.unlink()
    for path in sorted((shades / "val" / "red").iterdir())[1:]:
        path.unlink()
    plan = Plan(steps=4, batch_size=8, lr=1e-3)
    options = _options(shades, tmp_path / "run", from_run=transferred, plan=plan, class_balanced=True)
    report = finetune(options)
    found = evaluate(EvaluateOptions(options.out, shades, "val", execution=ONE_THREAD)).metrics
    assert report.metric == "balanced_accuracy" and report.score == pytest.approx(found["balanced_accuracy"])
    assert report.interval == pytest.approx(found["balanced_accuracy_interval"])
    stored = evaluate(EvaluateOptions(options.out, shades, execution=ONE_THREAD)).metrics
    assert stored["balanced_accuracy"] == report.score and stored["top1"] is None


def test_rare_classes_count_as_much_over_all_folds(shades: Path, tmp_path: Path) -> None:
    """A student that hardly learns says one thing of every image: right of one class in three."""
    for label, count in (("red", 2), ("green", 3)):
        for path in sorted((shades / "train" / label).iterdir())[count:]:
            path.unlink()
    plan = Plan(steps=1, batch_size=8, lr=1e-9)
    report = finetune(_options(shades / "train", tmp_path / "run", plan=plan, class_balanced=True))
    found = evaluate(EvaluateOptions(tmp_path / "run", shades / "train", "all", execution=ONE_THREAD)).metrics
    assert report.score == pytest.approx(found["balanced_accuracy"]) == pytest.approx(1 / 3)
    assert report.interval is not None and report.interval[0] < 1 / 3 < report.interval[1]
    assert report.interval[1] - report.interval[0] > 0.4, "classes of 2, 3 and 8 images say little"


def test_what_spares_a_backbone_needs_one(shades: Path, tmp_path: Path) -> None:
    for values, message in (
        ({"head_epochs": 1.0}, "is random"),
        ({"backbone_lr_scale": 0.1}, "is random"),
        ({"retention": 1.0}, "--retention without --from"),
        ({"backbone_lr_scale": 0.0}, "above 0 and at most 1"),
        ({"head_epochs": -1.0}, "--head-epochs"),
    ):
        with pytest.raises(UsageError, match=message):
            finetune(_options(shades, tmp_path / "run", **values))
