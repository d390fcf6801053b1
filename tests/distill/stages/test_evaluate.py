import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from distill.stages.evaluate import EvaluateOptions, evaluate
from tests.distill.small import ONE_THREAD
from tests.distill.stages import killed
from transferset.errors import DataError, UsageError


def _options(model: Path, data: Path, **values: object) -> EvaluateOptions:
    return EvaluateOptions(model, data, runtime="eager", execution=ONE_THREAD, **values)  # type: ignore[arg-type]


def test_the_numbers_are_those_of_the_predictions(teacher: Path, labelled: Path, tmp_path: Path) -> None:
    found = evaluate(_options(teacher, labelled, split="val", predictions=tmp_path / "answers.parquet"))
    table = pq.read_table(tmp_path / "answers.parquet").to_pydict()
    right = np.array(table["label"]) == np.array(table["predicted"])
    assert found.metrics["n"] == len(right) == 12
    assert found.metrics["top1"] == pytest.approx(right.mean())
    recalls = [right[np.array(table["label"]) == name].mean() for name in ("blue", "green", "red")]
    assert found.metrics["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert set(found.metrics["per_class"]) == {"blue", "green", "red"}
    assert np.allclose(np.sum(table["probabilities"], axis=1), 1, atol=1e-5)
    low, high = found.metrics["top1_interval"]
    assert low <= found.metrics["top1"] <= high


def test_without_a_test_split_the_stored_estimate_is_given_and_said(
    teacher: Path, labelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate(_options(teacher, labelled))
    assert found.split is None and found.estimate is not None
    assert "no test split" in capsys.readouterr().err
    stored = json.loads((teacher / "report.json").read_text())["estimate"]
    assert found.metrics["top1"] == stored["top1"]


def test_classes_that_the_model_does_not_know_are_named(
    teacher: Path, labelled: Path, tmp_path: Path
) -> None:
    shutil.copytree(labelled, tmp_path / "data")
    shutil.copytree(tmp_path / "data/val/red", tmp_path / "data/val/violet")
    with pytest.raises(DataError, match="violet"):
        evaluate(_options(teacher, tmp_path / "data", split="val"))


def test_names_that_are_not_text_are_escaped(teacher: Path, labelled: Path, tmp_path: Path) -> None:
    shutil.copytree(labelled, tmp_path / "data")
    image = tmp_path / "data/val/red/0.png"
    image.rename(image.with_name(os.fsdecode(b"\xff.png")))
    evaluate(_options(teacher, tmp_path / "data", split="val", predictions=tmp_path / "p.parquet"))
    assert "val/red/\\udcff.png" in pq.read_table(tmp_path / "p.parquet")["image"].to_pylist()


def test_unreadable_images_are_reported(teacher: Path, labelled: Path, tmp_path: Path) -> None:
    shutil.copytree(labelled, tmp_path / "data")
    bad = tmp_path / "data/val/red/0.png"
    bad.write_bytes(bad.read_bytes()[:100])
    found = evaluate(_options(teacher, tmp_path / "data", split="val"))
    assert list(found.unreadable) == [str(bad)] and found.metrics["n"] == 11


def test_json_is_one_object_on_stdout(
    teacher: Path, labelled: Path, run_python: Callable[..., object]
) -> None:
    start = ["-c", "from distill.cli import main; main()", "evaluate", "--runtime", "eager", "--json"]
    done = run_python([*start, "--model", str(teacher), "--data", str(labelled), "--split", "val"])
    assert done.returncode == 0, done.stderr  # type: ignore[attr-defined]
    assert json.loads(done.stdout)["n"] == 12  # type: ignore[attr-defined]
    mistyped = run_python([*start, "--model", str(teacher), "--data", str(labelled), "--splitt", "val"])
    assert mistyped.returncode == 2  # type: ignore[attr-defined]


def test_the_estimate_is_not_that_of_other_classes(teacher: Path, tmp_path: Path) -> None:
    (tmp_path / "val" / "mauve").mkdir(parents=True)
    (tmp_path / "val" / "mauve" / "0.png").touch()
    with pytest.raises(DataError, match="does not know: mauve"):
        evaluate(_options(teacher, tmp_path))


def test_predictions_are_parquet(teacher: Path, labelled: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"must end in \.parquet"):
        evaluate(_options(teacher, labelled, split="val", predictions=tmp_path / "p.csv"))


def test_predictions_without_a_test_split_are_not_written_and_that_is_said(
    teacher: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = tmp_path / "answers.parquet"
    answers.write_bytes(b"of another evaluation")
    assert evaluate(_options(teacher, labelled, predictions=answers)).split is None
    assert f"{answers} is not written: there are no test images to predict" in capsys.readouterr().err
    assert answers.read_bytes() == b"of another evaluation"


def test_another_split_that_is_not_there_is_an_error(teacher: Path, labelled: Path) -> None:
    with pytest.raises(DataError, match="has no val split") as error:
        evaluate(_options(teacher, labelled / "train", split="val"))
    assert "--split all" in str(error.value.hint)
    assert evaluate(_options(teacher, labelled / "train", split="all")).metrics["n"] == 18


GOOD = {"judged_on": "val", "scored_on": "val", "score": 0.5, "interval": [0.4, 0.6]}


@pytest.mark.parametrize("command", ["adapt", "train", "finetune"])
@pytest.mark.parametrize(
    "report",
    [
        [],
        {},
        {**GOOD, "score": None, "estimate": None},
        {**GOOD, "score": "high", "estimate": {}},
        {**GOOD, "interval": [0.4], "estimate": {"top1": 0.5}},
        {**GOOD, "interval": 0.4, "estimate": [0.5]},
        {**GOOD, "metric": "luck", "estimate": {"top1": 0.5}},
    ],
)
def test_a_foreign_report_holds_no_estimate(
    command: str, report: object, labelled: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"command": command}))
    (tmp_path / "report.json").write_text(json.dumps(report))
    with pytest.raises(DataError, match="is damaged") as error:
        evaluate(_options(tmp_path, labelled))
    assert "restore the directory" in str(error.value.hint)


def test_the_estimate_of_a_student_knows_its_score(labelled: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"command": "train"}))
    (tmp_path / "report.json").write_text(json.dumps(GOOD))
    (tmp_path / "labels.json").write_text(json.dumps(["blue", "green", "red"]))
    found = evaluate(_options(tmp_path, labelled)).to_dict()
    assert (found["top1"], found["top1_interval"], found["estimate"]) == (0.5, [0.4, 0.6], "val")
    assert (found["ece"], found["n"], found["per_class"]) == (None, None, {})
    balanced = {**GOOD, "metric": "balanced_accuracy", "interval": None}
    (tmp_path / "report.json").write_text(json.dumps(balanced))
    found = evaluate(_options(tmp_path, labelled)).to_dict()
    assert (found["balanced_accuracy"], found["balanced_accuracy_interval"], found["top1"]) == (
        0.5,
        None,
        None,
    )
    (tmp_path / "report.json").write_text(json.dumps({**GOOD, "scored_on": None, "score": None}))
    with pytest.raises(DataError, match="holds no estimate"):
        evaluate(_options(tmp_path, labelled))


@pytest.mark.parametrize(
    ("function", "call"), [("distill.models.teacher:Teacher.logits", 2), ("transferset.writes:sync", 1)]
)
def test_a_killed_evaluation_is_simply_run_again(
    teacher: Path, labelled: Path, tmp_path: Path, function: str, call: int
) -> None:
    """Killed within the images, and with the predictions written but not yet in their place."""
    answers = tmp_path / "answers.parquet"
    given = ["evaluate", "--model", teacher, "--data", labelled, "--split", "val", "--predictions", answers]
    given += ["--runtime", "eager", "--batch-size", 4, "--threads", 1, "--workers", 1, "--json"]
    killed.kill(given, function, call)
    assert not answers.exists()
    left = list(tmp_path.iterdir())
    assert len(left) == (function == "transferset.writes:sync"), left
    (tmp_path / ".tmp-other.parquet-1-x").touch()
    found = json.loads(killed.resume(given, function).stdout)
    assert {path.name for path in tmp_path.iterdir()} == {"answers.parquet", ".tmp-other.parquet-1-x"}
    there = tmp_path / "whole.parquet"
    whole = evaluate(_options(teacher, labelled, split="val", predictions=there, batch_size=4))
    assert found == whole.to_dict()
    assert answers.read_bytes() == there.read_bytes()
