import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from distill.loop.execution import Execution
from distill.stages.evaluate import EvaluateOptions, evaluate
from transferset.errors import DataError

ONE_THREAD = Execution(device="cpu", threads=1, workers=1)


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
