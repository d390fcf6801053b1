"""Several teachers of one student: averaged, or a head for each; and runs that go on from another one."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distill.data.batches import ViewPlan
from distill.data.views import augmentation
from distill.loop.plan import Plan
from distill.loop.run_directory import RunDirectory
from distill.methods.transfer import transfer_method
from distill.models.student import open_student
from distill.models.teacher import Teacher, open_teacher
from distill.splits.checked import learnt_ids
from distill.stages.adapt import AdaptOptions, adapt
from distill.stages.evaluate import EvaluateOptions, evaluate
from distill.stages.export import export
from distill.stages.export_options import ExportOptions
from distill.stages.finetune import FinetuneOptions, finetune
from distill.stages.label import LabelOptions, label
from distill.stages.train import TrainOptions, train
from distill.stages.train_several import run_path, train_several
from distill.teaching.combined import combined, distinct_names
from distill.teaching.online import OnlineTeaching
from tests.distill.small import CHANNELS, ONE_THREAD, TINY
from tests.distill.stages import killed
from tests.distill.stages.students import weights_sum
from transferset.errors import UsageError

WARMTH = ("cold", "warm")


@pytest.fixture(scope="module")
def shards(noise_tar: Callable[..., Path]) -> Path:
    return noise_tar(32)


@pytest.fixture(scope="module")
def warmth(tmp_path_factory: pytest.TempPathFactory, labelled: Path) -> Path:
    """The same images under another task."""
    root = tmp_path_factory.mktemp("warmth")
    for path in sorted(labelled.glob("*/*/*.png")):
        split, channel = path.parent.parent.name, path.parent.name
        folder = root / split / ("warm" if channel == "red" else "cold")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{channel}-{path.name}").symlink_to(path)
    return root


def _adapted(data: Path, out: Path, size: int) -> Path:
    adapt(AdaptOptions(data, TINY, out, image_size=size, runtime="eager", execution=ONE_THREAD))
    return out


@pytest.fixture(scope="module")
def smaller(tmp_path_factory: pytest.TempPathFactory, labelled: Path) -> Path:
    """A second teacher of the same classes, which looks at smaller images."""
    return _adapted(labelled, tmp_path_factory.mktemp("smaller") / "smaller", 32)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, warmth: Path) -> Path:
    """A teacher of another task."""
    return _adapted(warmth, tmp_path_factory.mktemp("other") / "other", 40)


def _options(shards: Path, teachers: tuple[Path, ...], out: Path, **values: object) -> TrainOptions:
    plan = Plan(steps=20, batch_size=16, lr=5e-3, checkpoint_every=6)
    options = TrainOptions((shards,), teachers, TINY, out, image_size=32, views=3, runtime="eager", plan=plan)
    return replace(options, **{"execution": ONE_THREAD, **values})  # type: ignore[arg-type]


def _arguments(shards: Path, teachers: tuple[Path, ...], out: Path, combine: str) -> list[object]:
    """The command line of `_options`."""
    given = [argument for path in teachers for argument in ("--teacher", path)]
    return [
        "train", "--shards", shards, *given, "--student", TINY, "--out", out, "--combine", combine,
        "--image-size", 32, "--views", 3, "--runtime", "eager", "--steps", 20, "--batch-size", 16,
        "--lr", 5e-3, "--checkpoint-every", 6, "--threads", 1, "--device", "cpu", "--workers", 1,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def averaged(tmp_path_factory: pytest.TempPathFactory, shards: Path, teacher: Path, smaller: Path) -> Path:
    out = tmp_path_factory.mktemp("averaged") / "run"
    train(_options(shards, (teacher, smaller), out))
    return out


@pytest.fixture(scope="module")
def two_heads(
    tmp_path_factory: pytest.TempPathFactory, shards: Path, teacher: Path, other: Path, warmth: Path
) -> Path:
    out = tmp_path_factory.mktemp("heads") / "run"
    plan = Plan(steps=40, batch_size=16, lr=1e-2)
    train(
        _options(shards, (teacher, other), out, combine="heads", data=warmth, labelled_share=0.4, plan=plan)
    )
    return out


def test_an_average_costs_and_counts_both(averaged: Path, shards: Path, teacher: Path, smaller: Path) -> None:
    report, config = (json.loads((averaged / f"{name}.json").read_text()) for name in ("report", "config"))
    costs = report["costs"]
    for name in ("teacher", "smaller"):
        assert costs[f"teacher {name}"]["images"] == 3 * 32 and costs[f"teacher {name}"]["flops"] > 0
    assert costs["teacher teacher"]["flops"] > costs["teacher smaller"]["flops"]
    assert config["arguments"]["combine"] == "average" and len(config["inputs"]["teacher_sha256"]) == 2
    assert config["resolved"]["runtime"] == ["eager", "eager"]
    assert open_student(averaged).classes == CHANNELS and report["head"] is None
    assert not list(averaged.glob("teacher_outputs*")) and not (averaged / "heads").exists()
    line = next(entry for entry in RunDirectory(averaged).metrics() if "loss" in entry)
    assert line["teacher_percent"] > 0
    assert train(_options(shards, (teacher, smaller), averaged)).costs == costs


def test_the_average_goes_by_names_and_not_by_places(teacher: Path, smaller: Path) -> None:
    method = transfer_method("task-oriented", temperature=None, feature_loss=None)
    plan = ViewPlan(augmentation("none"), 0, 4, 1)
    first, second = (open_teacher(path, runtime="eager", batch_size=4) for path in (teacher, smaller))
    turned = [2, 0, 1]
    head = replace(second.head, weight=second.head.weight[turned], bias=second.head.bias[turned])
    moved = replace(second, head=head, classes=tuple(CHANNELS[place] for place in turned))

    def average(one: Teacher) -> np.ndarray:
        teachings = [OnlineTeaching(first, method, plan), OnlineTeaching(one, method, plan)]
        together = combined(teachings, ("a", "b"), "average", (1.0, 3.0))
        images = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 3), np.uint8)
        return together._average([first.logits(images), one.logits(images[:, :32, :32])])

    assert np.allclose(average(second), average(moved), atol=1e-6)
    assert np.allclose(np.exp(average(second)).sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(("combine", "step"), [("average", 9), ("heads", 4)])
def test_a_killed_run_ends_with_the_same_bits(
    averaged: Path, shards: Path, teacher: Path, smaller: Path, tmp_path: Path, combine: str, step: int
) -> None:
    """Before the first checkpoint, and between two."""
    expected = averaged
    if combine == "heads":
        expected = tmp_path / "undisturbed"
        train(_options(shards, (teacher, smaller), expected, combine="heads"))
    given = _arguments(shards, (teacher, smaller), tmp_path / "run", combine)
    killed.kill(given, killed.TRAIN_STEP, step + 1)
    assert killed.resume(given, killed.TRAIN_STEP).calls == 20 - step // 6 * 6
    assert weights_sum(tmp_path / "run") == weights_sum(expected)
    heads = sorted((expected / "heads").glob("*"))
    assert len(heads) == (2 if combine == "heads" else 0)
    for head in heads:
        assert weights_sum(tmp_path / "run" / "heads" / head.name) == weights_sum(head)


def test_lost_outputs_of_one_teacher_are_computed_again(
    averaged: Path, shards: Path, teacher: Path, smaller: Path, tmp_path: Path
) -> None:
    given = _arguments(shards, (teacher, smaller), tmp_path / "run", "average")
    killed.kill(given, killed.TRAIN_STEP, 10)
    (tmp_path / "run" / "teacher_outputs-1.npy").unlink()
    train(_options(shards, (teacher, smaller), tmp_path / "run"))
    assert weights_sum(tmp_path / "run") == weights_sum(averaged)


def test_a_head_for_each_teacher(two_heads: Path, labelled: Path, warmth: Path, tmp_path: Path) -> None:
    """Every head is a finished student, and they share the backbone."""
    report = json.loads((two_heads / "report.json").read_text())
    assert report["head"] == "teacher" and report["scored_on"] == "val, head other"
    assert report["chosen_step"] == report["steps"], "val knows one task and does not choose"
    students = {name: open_student(two_heads / "heads" / name) for name in ("teacher", "other")}
    assert (students["teacher"].classes, students["other"].classes) == (CHANNELS, WARMTH)
    assert weights_sum(two_heads) == weights_sum(two_heads / "heads" / "teacher")
    one, two = (students[name].module.state_dict() for name in ("teacher", "other"))
    assert {name for name in one if not one[name].equal(two[name])} == {
        "classifier.weight",
        "classifier.bias",
    }
    for name, data in (("teacher", labelled), ("other", warmth)):
        model = two_heads / "heads" / name
        found = evaluate(EvaluateOptions(model, data, "val", execution=ONE_THREAD))
        assert found.metrics["top1"] >= 0.6, name
    assert found.metrics["top1"] == report["score"]
    config = json.loads((two_heads / "config.json").read_text())
    assert config["student"]["parameters"] == sum(
        p.numel() for p in open_student(two_heads).module.parameters()
    )
    heads = [json.loads((two_heads / "heads" / name / "report.json").read_text()) for name in students]
    assert [head["score"] for head in heads] == [None, report["score"]]


def test_a_head_is_finetuned_and_exported(two_heads: Path, warmth: Path, tmp_path: Path) -> None:
    head = two_heads / "heads" / "other"
    plan = Plan(steps=2, batch_size=8)
    finetuned = FinetuneOptions(warmth, tmp_path / "finetuned", head, plan=plan, execution=ONE_THREAD)
    assert finetune(finetuned).score is not None
    export(ExportOptions(head, tmp_path / "export", data=warmth, execution=ONE_THREAD))
    assert "; " in (tmp_path / "export" / "README.md").read_text()


def test_a_store_for_each_teacher(
    shards: Path, teacher: Path, smaller: Path, other: Path, averaged: Path, tmp_path: Path
) -> None:
    """What is learnt from two stores is what the two teachers would have taught, to float16."""
    stores = []
    for path in (teacher, smaller, other):
        given = LabelOptions((shards,), path, tmp_path / path.name, views=3, runtime="eager", decode_size=48)
        label(replace(given, execution=ONE_THREAD))
        stores.append(given.out)
    same, apart = tuple(stores[:2]), (stores[0], stores[2])
    report = train(_options(shards, (), tmp_path / "run", labels_from=same))
    assert report.costs["teacher teacher"]["images"] == 0
    losses = [
        [entry["loss"] for entry in RunDirectory(run).metrics() if "loss" in entry]
        for run in (tmp_path / "run", averaged)
    ]
    assert losses[0][0] == pytest.approx(losses[1][0], rel=2e-2)
    with pytest.raises(UsageError, match="teacher and other know other classes: blue, green, red, cold"):
        train(_options(shards, (), tmp_path / "apart", labels_from=apart))
    train(_options(shards, (), tmp_path / "apart", labels_from=apart, combine="heads"))
    assert open_student(tmp_path / "apart" / "heads" / "other").classes == WARMTH
    again = LabelOptions((shards,), smaller, tmp_path / "seed 1", views=3, runtime="eager", decode_size=48)
    label(replace(again, seed=1, execution=ONE_THREAD))
    with pytest.raises(UsageError, match="seed 1 holds other views than teacher"):
        train(_options(shards, (), tmp_path / "views", labels_from=(stores[0], again.out)))


def test_a_run_goes_on_with_another_teacher(
    shards: Path, teacher: Path, other: Path, labelled: Path, tmp_path: Path
) -> None:
    """The old head starts as it was, the new one is probed first while the rest is left alone."""
    first = tmp_path / "first"
    train(_options(shards, (teacher,), first))
    going_on = _options(
        shards, (teacher, other), tmp_path / "second", combine="heads", student=None, image_size=None
    )
    going_on = replace(going_on, from_run=first, head_epochs=2.0, backbone_lr_scale=0.1)
    train(replace(going_on, plan=Plan(steps=1, batch_size=16, lr=1e-9)))
    before = open_student(first).module.state_dict()
    after = open_student(going_on.out / "heads" / "teacher").module.state_dict()
    floats = [name for name in before if before[name].is_floating_point() and "running" not in name]
    assert all(before[name].allclose(after[name], atol=1e-5) for name in floats)
    config = json.loads((going_on.out / "config.json").read_text())
    assert config["arguments"]["head"] == {"steps": 4, "backbone_lr_scale": 0.1}
    assert config["arguments"]["steps"] == 5 and config["student"]["from"] == f"../{first.name}"
    third = replace(going_on, from_run=going_on.out, out=tmp_path / "third", teacher=(other, teacher))
    train(replace(third, plan=Plan(steps=1, batch_size=16, lr=1e-9)))
    again = open_student(third.out / "heads" / "other").module.state_dict()
    other_head = open_student(going_on.out / "heads" / "other").module.state_dict()
    assert all(again[name].allclose(other_head[name], atol=1e-5) for name in floats)


def test_a_run_that_goes_on_without_labels_knows_what_its_start_has_learnt(
    shards: Path, teacher: Path, other: Path, labelled: Path, tmp_path: Path
) -> None:
    plan = Plan(steps=1, batch_size=16)
    train(_options(shards, (teacher,), tmp_path / "first", data=labelled, plan=plan))
    going_on = _options(shards, (teacher, other), tmp_path / "second", combine="heads", plan=plan)
    train(replace(going_on, student=None, image_size=None, from_run=tmp_path / "first"))
    learnt = learnt_ids(tmp_path / "second")
    assert learnt and learnt == learnt_ids(tmp_path / "first")


def test_a_run_that_goes_on_and_is_killed_ends_with_the_same_bits(
    averaged: Path, shards: Path, teacher: Path, other: Path, tmp_path: Path
) -> None:
    given: list[object] = ["train", "--shards", shards, "--teacher", teacher, "--teacher", other]
    given += ["--combine", "heads", "--from", averaged, "--head-epochs", 3, "--backbone-lr-scale", 0.1]
    given += ["--teacher-weight", 2, "--teacher-weight", 1, "--views", 2, "--runtime", "eager", "--steps", 6]
    given += ["--batch-size", 16, "--checkpoint-every", 4, "--threads", 1, "--device", "cpu", "--workers", 1]
    plan = Plan(steps=6, batch_size=16, checkpoint_every=4)
    options = _options(shards, (teacher, other), tmp_path / "whole", combine="heads", views=2, plan=plan)
    options = replace(options, student=None, image_size=None, from_run=averaged, head_epochs=3.0)
    train(replace(options, backbone_lr_scale=0.1, teacher_weights=(2.0, 1.0)))
    killed.kill([*given, "--out", tmp_path / "run"], killed.TRAIN_STEP, 6)
    assert killed.resume([*given, "--out", tmp_path / "run"], killed.TRAIN_STEP).calls == 12 - 4
    for name in ("teacher", "other"):
        assert weights_sum(tmp_path / "run" / "heads" / name) == weights_sum(
            tmp_path / "whole" / "heads" / name
        )


def test_several_students_of_several_teachers(
    averaged: Path, shards: Path, teacher: Path, smaller: Path, tmp_path: Path
) -> None:
    students = (TINY, "timm:test_resnet@none")
    train_several(_options(shards, (teacher, smaller), tmp_path / "runs"), students)
    assert weights_sum(run_path(tmp_path / "runs", 0, TINY)) == weights_sum(averaged)


def test_a_view_and_its_mirror_image(shards: Path, teacher: Path, tmp_path: Path) -> None:
    report = train(_options(shards, (teacher,), tmp_path / "run", teacher_flip=True))
    plain = train(_options(shards, (teacher,), tmp_path / "plain"))
    assert report.costs["teacher"]["flops"] == 2 * plain.costs["teacher"]["flops"]
    assert weights_sum(tmp_path / "run") != weights_sum(tmp_path / "plain")
    with pytest.raises(UsageError, match="teacher_flip: True there, none now"):
        train(_options(shards, (teacher,), tmp_path / "run"))


def test_names_of_teachers() -> None:
    assert distinct_names([Path("runs/a"), Path("runs/b")]) == ("a", "b")
    assert distinct_names([Path("a/teacher"), Path("b/teacher")]) == ("0-teacher", "1-teacher")


def test_options_that_do_not_fit(
    averaged: Path, shards: Path, teacher: Path, smaller: Path, other: Path, tmp_path: Path
) -> None:
    both = _options(shards, (teacher, smaller), tmp_path / "run")
    for values, message in (
        ({"combine": "magic"}, "unknown --combine 'magic'"),
        ({"teacher": (teacher,), "combine": "heads"}, "--combine heads with one teacher"),
        ({"teacher": (teacher, other)}, "know other classes"),
        ({"teacher_weights": (1.0,)}, "1 --teacher-weight for 2 teachers"),
        ({"teacher_weights": (1.0, 0.0)}, "must be positive"),
        ({"method": "task-agnostic"}, "features of one teacher"),
        ({"labels_from": tmp_path}, "several teachers with --labels-from"),
        (
            {"teacher": None, "labels_from": tmp_path, "teacher_flip": True},
            "--teacher-flip with --labels-from",
        ),
        ({"combine": "heads", "label_weight": 1.0, "data": teacher}, "--label-weight with --combine heads"),
        ({"student": None}, "--student or continues"),
        ({"from_run": averaged}, "--student or continues"),
        ({"student": None, "from_run": averaged}, "--image-size with --from"),
        ({"head_epochs": 1.0}, "is random"),
        ({"combine": "heads", "plan": Plan(steps=2, patience=1)}, "--patience with --combine heads"),
        ({"backbone_lr_scale": 2.0}, "at most 1"),
    ):
        with pytest.raises(UsageError, match=message):
            train(replace(both, **values))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="combine: average there, heads now"):
        train(replace(both, out=averaged, combine="heads"))
    with pytest.raises(UsageError, match="teacher: other content than there"):
        train(replace(both, out=averaged, teacher=(smaller, teacher)))
