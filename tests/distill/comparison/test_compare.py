"""The comparison: every cell once, resumable; failures are told and stop nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from distill.cli import app
from distill.comparison import runner, shared, work
from distill.comparison.cells import Cell
from distill.comparison.compare import compare
from distill.comparison.compare_options import CompareOptions
from distill.comparison.comparison import Comparison
from distill.comparison.estimate import estimate
from distill.comparison.recipe_file import load_recipe
from distill.comparison.shared import Shared
from tests.distill.comparison.conftest import CHANNELS, TINY
from tests.distill.small import ONE_THREAD
from transferset.entry_point import run_cli
from transferset.errors import UsageError
from transferset.labelled import load_labelled
from transferset.writes import read_json, sha256_file

ROOT = Path(__file__).resolve().parents[3]
Write = Callable[..., Path]


def run(recipe: Path, only: str | None = None, report_only: bool = False) -> Comparison:
    return compare(CompareOptions(recipe, None, only, report_only, ONE_THREAD))


def results(out: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in out.rglob("result.json")}


def test_a_comparison(write_recipe: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = write_recipe(costs={"embedding the pool": {"images": 12, "seconds": 2, "flops": 1e9}})
    found = run(recipe)
    assert [row.name for row in found.rows] == ["teacher", "task-oriented + pool", "labels-only"]
    assert all(row.spread.runs == 2 for row in found.rows) and not found.failed
    assert found.out == recipe.with_suffix("")
    names = [(one.first.name, one.second.name) for one in found.differences]
    assert names == [("task-oriented + pool", "teacher"), ("task-oriented + pool", "labels-only")]
    assert all(one.seeds == (0, 1) and one.difference.runs == (2, 2) for one in found.differences)

    written = json.loads((found.out / "compare.json").read_text())
    cell = next(one for one in written["cells"] if one["name"] == "task-oriented/pool/3-seed1")
    stages = {cost["stage"]: cost for cost in cell["costs"]}
    assert stages["adapt"]["shared"] and not stages["train"]["shared"]
    assert stages["train: student"]["images"] == 24 and stages["train: student"]["flops"] > 0
    assert stages["finetune: student"]["images"] == 12
    for command, evaluations in (
        ("train", 4),
        ("finetune", 1 + 2),
    ):  # ten a run at most; before finetuning too
        evaluated = stages[f"{command}: evaluate"]
        assert evaluated["images"] == 12 * evaluations
        per_image = stages[f"{command}: student"]["flops"] / stages[f"{command}: student"]["images"]
        assert 0.2 < evaluated["flops"] / evaluated["images"] / per_image < 0.5  # forward alone: a third
    assert cell["set_images"] == 12 and cell["label_images"] == 9
    assert cell["total"]["flops"] == sum(cost["flops"] for cost in cell["costs"])
    first = next(one for one in written["cells"] if one["name"] == "task-oriented/pool/3-seed0")
    assert len(first["costs"]) == len(cell["costs"])  # a cell pays for itself alone
    table = pq.read_table(found.out / "compare.parquet").to_pylist()
    assert len(table) == 6 and {row["status"] for row in table} == {"done"}
    html = (found.out / "report.html").read_text()
    assert "embedding the pool" in html and "Can&#x27;t tell" in html
    assert {path.stem for path in (found.out / "plots").iterdir()} == {
        "cost",
        "classes",
        "calibration",
        "confusion",
    }

    before = results(found.out)

    def refuse(*arguments: object) -> None:
        raise AssertionError("a finished cell is not made again")

    monkeypatch.setattr(runner, "do", refuse)
    again = run(recipe)
    assert results(found.out) == before
    assert again.to_dict() == found.to_dict()
    assert run(recipe, report_only=True).to_dict() == found.to_dict()


def test_another_recipe_is_refused(write_recipe: Write) -> None:
    recipe = write_recipe(methods=["labels-only"], seeds=[0])
    found = run(recipe)
    write_recipe(methods=["labels-only"], seeds=[0], labels_only={"steps": [3], "lrs": [1e-3]})
    before = results(found.out)
    with pytest.raises(UsageError, match=r"grid.*\[2\] there, \[3\] now"):
        run(recipe)
    with pytest.raises(UsageError, match=r"\[2\] there, \[3\] now"):
        run(recipe, report_only=True)
    assert results(found.out) == before
    write_recipe(methods=["labels-only"], seeds=[0, 1], labels_only={"steps": [3], "lrs": [1e-3]})
    with pytest.raises(UsageError, match=r"\[2\] there, \[3\] now"):
        run(recipe, only="*-seed1")
    write_recipe(methods=["labels-only"], seeds=[0, 1])  # more cells are no other recipe
    assert len(run(recipe, only="*-seed1").rows[0].answers) == 2


def test_a_failed_cell_stops_nothing(write_recipe: Write, pool_set: Path) -> None:
    sets = {"missing": "no/such/folder", "pool": str(pool_set)}
    recipe = write_recipe(seeds=[0], transfer_sets=sets, methods=["task-oriented"])
    found = run(recipe)
    status = {one.cell.name: (one.status, one.reason) for one in found.outcomes}
    assert status["task-oriented/pool/3-seed0"][0] == "done"
    assert status["task-oriented/missing/3-seed0"][0] == "failed"
    assert "does not exist" in str(status["task-oriented/missing/3-seed0"][1])
    assert [one.cell.name for one in found.failed] == ["task-oriented/missing/3-seed0"]
    shutil.copytree(pool_set, recipe.parent / "no" / "such" / "folder")  # mended
    assert "task-oriented + missing" in [row.name for row in run(recipe).rows]


def table_of(task: Path, path: Path, lost: set[str], split: str = "train") -> Path:
    """The task as a table, in which the `lost` images of a split are not where it says."""
    rows = [
        f"{image.path}{'.gone' if image.split == split and image.path.name in lost else ''}"
        f",{image.label},{image.split}"
        for image in load_labelled(task).images
    ]
    path.write_text("\n".join(["image,label,split", *rows]))
    return path


def test_training_images_that_cannot_be_read(
    write_recipe: Write, task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The set `own` goes without them, every cell is done, and a second run goes on."""
    copied = tmp_path / "copied"
    shutil.copytree(task, copied)
    damaged = copied / "train" / "red" / "5.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    table = table_of(copied, tmp_path / "task.csv", {"0.png"})
    given = {"task": str(table), "transfer_sets": {"own": "own"}, "methods": ["labels-only", "task-oriented"]}
    recipe = write_recipe(**given, seeds=[0], finetune=False)
    found = run(recipe)
    assert not found.failed and [row.set_images for row in found.rows] == [None, 15, None]
    lost = read_json(found.out / "own" / "unreadable.json")
    assert set(lost) == {f"{copied}/train/{channel}/0.png.gone" for channel in CHANNELS}
    assert "3 training images could not be read; the first:" in capsys.readouterr().err
    again = run(write_recipe(**given, seeds=[0, 1], finetune=False))
    assert not again.failed and [row.spread.runs for row in again.rows] == [2, 2, 2]


def test_own_images_that_were_repaired_are_taken(write_recipe: Write, task: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(task, copied)
    image = copied / "train" / "red" / "0.png"
    whole = image.read_bytes()
    recipe = load_recipe(write_recipe(task=str(copied), transfer_sets={"own": "own"}))
    found = []
    for data in (whole, whole[:100], whole):
        image.write_bytes(data)
        found.append(sha256_file(Shared(recipe, tmp_path / "out", ONE_THREAD).own_images()))
    assert found[0] == found[2] != found[1]


def test_no_training_image_can_be_read(
    write_recipe: Write, task: Path, pool_set: Path, tmp_path: Path
) -> None:
    """The cells that need them fail, and say so again; those of other sets are not held up."""
    table = table_of(task, tmp_path / "task.csv", {f"{number}.png" for number in range(6)})
    recipe = write_recipe(task=str(table), transfer_sets={"own": "own"}, methods=["task-oriented"], seeds=[0])
    for _ in range(2):
        reasons = {one.cell.name: (one.status, str(one.reason)) for one in run(recipe).outcomes}
        status, reason = reasons["task-oriented/own/3-seed0"]
        assert status == "failed" and "18 training images could not be read" in reason
        assert reasons["teacher/3-seed0"][0] == "failed"


def test_a_set_that_is_lost_later_stops_nothing(
    write_recipe: Write, pool_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever opening it raises: the others go on, and so does the next run."""
    sets = {"lost": str(tmp_path / "lost"), "pool": str(pool_set)}
    shutil.copytree(pool_set, tmp_path / "lost")
    recipe = write_recipe(seeds=[0], transfer_sets=sets, methods=["task-oriented"], finetune=False)
    assert not run(recipe, only="*/lost/*").failed
    opened = shared.open_transfer_shards

    def gone(paths: tuple[Path, ...]) -> object:
        if paths == (tmp_path / "lost",):
            raise FileNotFoundError(2, "No such file or directory", str(paths[0]))
        return opened(paths)

    monkeypatch.setattr(shared, "open_transfer_shards", gone)
    status = {one.cell.name: one.status for one in run(recipe).outcomes}
    assert status["task-oriented/pool/3-seed0"] == "done"
    assert status["task-oriented/lost/3-seed0"] == "done"  # it was finished before


def test_weights_that_cannot_be_had_are_no_failure(write_recipe: Write, tmp_path: Path) -> None:
    gone = f"timm:test_efficientnet@{tmp_path}/gone.safetensors"
    student = {"spec": "timm:test_efficientnet@none", "image_size": 24, "pretrained": gone}
    found = run(write_recipe(seeds=[0], methods=["pretrained"], transfer_sets=None, student=student))
    outcome = next(one for one in found.outcomes if one.cell.method == "pretrained")
    assert outcome.status == "not available" and "gone.safetensors" in str(outcome.reason)
    assert not found.failed and "not available" in (found.out / "report.html").read_text()


@pytest.mark.parametrize("damage", ["result", "predictions"])
def test_a_damaged_cell_is_made_again(write_recipe: Write, damage: str) -> None:
    recipe = write_recipe(methods=["labels-only"], seeds=[0], transfer_sets=None)
    found = run(recipe)
    folder = found.out / "cells" / "labels-only" / "3-seed0"
    path = folder / ("result.json" if damage == "result" else "test.parquet")
    path.write_bytes(path.read_bytes()[:-9])
    assert run(recipe).to_dict() == found.to_dict()


def test_a_finetuned_teacher(write_recipe: Write) -> None:
    """What the recipe says of it reaches `adapt`, and what it costs is told before and after."""
    teacher = {"spec": TINY, "image_size": 32, "tune": "lp-ft", "retention": 0.5, "steps": 2, "folds": 2}
    recipe = write_recipe(
        teacher={**teacher, "train_batch_size": 4}, seeds=[0], methods=["labels-only"], transfer_sets=None
    )
    [told] = estimate(CompareOptions(recipe, only="teacher/*", execution=ONE_THREAD))
    assert told.student_images == 2 * 4 * 3  # two folds and the last training: val is tiny
    found = run(recipe, only="teacher/*")
    assert not found.failed
    folder = found.out / "teachers" / "teacher" / "3-seed0"
    tuning = read_json(folder / "config.json")["arguments"]["tuning"]
    assert (tuning["mode"], tuning["retention"], tuning["steps"]) == ("lp-ft", 0.5, 2)
    assert read_json(folder / "report.json")["tune"] == "lp-ft"
    costs = {cost.stage: cost for cost in found.outcomes[0].work.costs}  # type: ignore[union-attr]
    assert costs["adapt: tuning"].images >= 2 * 4 * 2 and costs["adapt: tuning"].flops > 0
    assert told.flops is not None and told.flops > costs["adapt: features"].flops


def test_methods_share_a_store(write_recipe: Write) -> None:
    methods = ["task-oriented", "pseudo-labels", "task-agnostic"]
    found = run(write_recipe(methods=methods, seeds=[0], transfer_sets={"own": "own"}, finetune=False))
    costs = {
        one.cell.method: {cost.stage: cost for cost in one.work.costs}
        for one in found.outcomes
        if one.work is not None
    }
    stored = [costs[method]["label"] for method in methods[:2]]
    assert stored[0] == stored[1] and stored[0].shared and stored[0].images == 2 * 18 + 2 * 9
    assert "label" not in costs["task-agnostic"] and costs["task-agnostic"]["train: teacher"].flops > 0
    assert found.rows[1].set_images == 18


def test_features_are_in_no_store(write_recipe: Write) -> None:
    """The teacher is asked for them while the student trains; one user alone needs no store for the rest."""
    train = {"steps": 4, "batch_size": 6, "views": 1, "feature_weight": 2.0}
    methods = ["task-oriented", "pseudo-labels"]
    found = run(
        write_recipe(methods=methods, seeds=[0], transfer_sets={"own": "own"}, finetune=False, train=train)
    )
    folder = found.out / "cells" / "task-oriented" / "own" / "3-seed0" / "student"
    assert read_json(folder / "config.json")["arguments"]["feature_weight"] == 2.0
    stages = {
        one.cell.method: {cost.stage for cost in one.work.costs}
        for one in found.outcomes
        if one.work is not None
    }
    assert "train: teacher" in stages["task-oriented"] and "label" not in stages["task-oriented"]
    assert not found.failed and "label" not in stages["pseudo-labels"]


def test_learning_curves(write_recipe: Write, pool_set: Path) -> None:
    sets = {"own": {"path": "own", "series": "s"}, "pool": {"path": str(pool_set), "series": "s"}}
    recipe = write_recipe(
        labels=[2, 3], seeds=[0], transfer_sets=sets, methods=["task-oriented"], finetune=False
    )
    found = run(recipe)
    answers = {one["over"]: one for one in found.to_dict()["answers"]}
    assert "from 6 to 9 labels" in answers["labels"]["sentence"]
    assert "from 12 to 18 pool images" in answers["pool images"]["sentence"]
    for one in answers.values():
        middle, low, high = one["per_doubling"]
        assert low <= middle <= high
        assert one["verdict"] == ("yes" if low > 0 else "no" if high < 0 else "can't tell")
    assert {"labels", "sets"} <= {path.stem for path in (found.out / "plots").iterdir()}


def test_imbalanced_tasks_are_selected_by_balanced_accuracy(write_recipe: Write) -> None:
    found = run(write_recipe(metric="balanced_accuracy", seeds=[0]))
    cell = found.out / "cells" / "task-oriented" / "pool" / "3-seed0"
    for stage in ("student", "finetuned"):
        assert read_json(cell / stage / "report.json")["metric"] == "balanced_accuracy"
    row = found.rows[0]
    answers = row.answers[0]
    recalls = [answers.right[answers.labels == label].mean() for label in range(3)]
    assert row.spread.mean == pytest.approx(np.mean(recalls))


def test_a_dry_run_writes_nothing(write_recipe: Write, tmp_path: Path) -> None:
    recipe = write_recipe()
    estimates = {one.cell.name: one for one in estimate(CompareOptions(recipe, execution=ONE_THREAD))}
    assert not recipe.with_suffix("").exists()
    student = estimates["task-oriented/pool/3-seed0"]
    assert student.student_images == 4 * 6 + 2 * 6
    assert student.flops is not None and student.flops > 0 and student.seconds is not None
    gentle = {"steps": 2, "batch_size": 6, "head_epochs": 2, "retention": 0.5}
    [dearer] = estimate(CompareOptions(write_recipe(finetune=gentle), only=student.cell.name))
    assert dearer.student_images == 4 * 6 + (2 * 6 + 2 * 9) * 4 / 3
    recipe = write_recipe()
    assert estimates["labels-only/3-seed0"].student_images == 2 * 6
    found = run(recipe, only="*-seed0")
    real = next(one.work for one in found.outcomes if one.cell.name == "labels-only/3-seed0")
    assert real is not None
    spent = sum(cost.flops for cost in real.costs if "evaluate" not in cost.stage)
    assert estimates["labels-only/3-seed0"].flops == pytest.approx(spent)


def test_a_budget_that_is_larger_than_the_data_is_told(
    write_recipe: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before it is run, once when it is, and in the report."""
    recipe, only = write_recipe(labels=[50], methods=["labels-only"], transfer_sets=None), "labels-only/*"
    estimate(CompareOptions(recipe, only=only, execution=ONE_THREAD))
    assert capsys.readouterr().err.count("note: 50 per class: 3 of 3 classes have fewer") == 1
    found = run(recipe, only)
    assert capsys.readouterr().err.count("note: 50 per class: 3 of 3 classes have fewer") == 1
    assert "50 per class is 18 labels in total" in (found.out / "report.html").read_text()


def test_no_cell_matches(write_recipe: Write) -> None:
    with pytest.raises(UsageError, match="matches no cell"):
        run(write_recipe(), only="nothing*")


def test_killed_and_resumed(write_recipe: Write) -> None:
    """A kill in the middle of a cell: the same command ends with what an undisturbed run gives."""
    recipe = write_recipe(seeds=[0])
    whole = compare(CompareOptions(recipe, recipe.parent / "whole", execution=ONE_THREAD))
    out = recipe.parent / "killed"
    code = (
        "import sys; from pathlib import Path; from distill.comparison.compare import *;"
        "from distill.loop.execution import Execution;"
        f"compare(CompareOptions(Path({str(recipe)!r}), Path({str(out)!r}), "
        "execution=Execution('cpu', 1, 1)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not (out / "cells/task-oriented/pool/3-seed0/student/config.json").exists():
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "cells/task-oriented/pool/3-seed0/result.json").exists()
    resumed = compare(CompareOptions(recipe, out, execution=ONE_THREAD))
    scores = [[row.scores for row in found.rows] for found in (whole, resumed)]
    assert scores[0] == scores[1]
    weights = [
        (found.out / "cells/task-oriented/pool/3-seed0/finetuned/model.safetensors").read_bytes()
        for found in (whole, resumed)
    ]
    assert weights[0] == weights[1]


def test_an_unknown_error_is_not_swallowed(write_recipe: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(shared: Shared, cell: Cell, folder: Path) -> work.Work:
        raise RuntimeError("a bug")

    monkeypatch.setattr(runner, "do", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        run(write_recipe())


def test_the_command(write_recipe: Write, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = write_recipe(methods=["labels-only"], seeds=[0], transfer_sets=None, teacher={"spec": "timm:no"})
    for arguments, code in ((["--json"], 3), (["--report-only"], 3), (["--dry-run", "--json"], 0)):
        with pytest.raises(SystemExit) as end:
            run_cli(app, ["compare", str(recipe), "--threads", "1", *arguments])
        assert end.value.code == code
        output = capsys.readouterr()
        if "--json" in arguments:
            cells = {one["name"]: one["status"] for one in json.loads(output.out)["cells"]}
            assert cells == {"teacher/3-seed0": "failed", "labels-only/3-seed0": "done"}
        if code:
            assert "1 cells failed; the first: teacher/3-seed0" in output.err


def test_a_mistake_in_the_recipe_is_usage(write_recipe: Write, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run_cli(app, ["compare", str(write_recipe(labels=0))])
    assert end.value.code == 2 and "labels must be" in capsys.readouterr().err
