import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from distill.cli import app
from distill.loop.plan import Plan
from distill.predictions import Prediction
from distill.stages.export import export
from distill.stages.export_options import ExportOptions
from distill.stages.finetune import FinetuneOptions, finetune
from distill.stages.predict import PredictOptions, predict
from tests.distill.small import ONE_THREAD
from transferset.entry_point import run_cli
from transferset.errors import DataError, UsageError

pytestmark = pytest.mark.usefixtures("short_measurements")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, labelled: Path) -> Path:
    """The export of a student that tells the noise apart."""
    root = tmp_path_factory.mktemp("model")
    student, plan = "timm:test_efficientnet@none", Plan(steps=40, batch_size=18, lr=1e-2)
    options = FinetuneOptions(labelled, root / "run", student=student, image_size=32, plan=plan)
    finetune(replace(options, execution=ONE_THREAD))
    export(ExportOptions(root / "run", root / "export", execution=ONE_THREAD, batch_size=4))
    return root / "export"


@pytest.fixture
def fresh(model: Path, tmp_path: Path) -> Path:
    """A copy of it, to keep a threshold in."""
    return Path(shutil.copytree(model, tmp_path / "model"))


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory, encode: Callable, picture: Callable) -> Path:
    """Pictures that are no noise."""
    root = tmp_path_factory.mktemp("pool")
    for number in range(20):
        (root / f"{number:02d}.jpg").write_bytes(encode(picture(seed=number)))
    return root


def _options(model: Path, *images: object, **values: object) -> PredictOptions:
    given = PredictOptions(model, tuple(map(str, images)), batch_size=5, execution=ONE_THREAD)
    return replace(given, **values)  # type: ignore[arg-type]


def test_every_image_gets_its_class(model: Path, labelled: Path) -> None:
    found: list[Prediction] = []
    report = predict(_options(model, labelled / "train"), found.append)
    names = [Path(prediction.image).parent.name for prediction in found]
    right = np.mean([prediction.predicted == name for prediction, name in zip(found, names)])
    assert len(found) == report.predicted == 18 and right > 0.8
    assert sum(report.classes.values()) == 18 and report.rejected is None and report.kind == "export"
    assert all(one.probability == pytest.approx(one.probabilities.max()) for one in found)


def test_runs_and_teachers_predict_too(model: Path, teacher: Path, labelled: Path) -> None:
    for one, kind in ((model.parent / "run", "student"), (teacher, "teacher")):
        report = predict(_options(one, labelled / "val", runtime="eager"))
        assert report.kind == kind and report.predicted == 12


def test_tables_hold_every_image_also_the_unreadable(model: Path, labelled: Path, tmp_path: Path) -> None:
    shutil.copytree(labelled / "val/red", tmp_path / "images")
    (tmp_path / "images/0.png").write_bytes(b"GIF89a")
    report = predict(_options(model, tmp_path / "images", table=tmp_path / "t.parquet"))
    assert report.predicted == 3 and len(report.unreadable) == 1
    table = pq.read_table(tmp_path / "t.parquet")
    assert json.loads(table.schema.metadata[b"classes"]) == ["blue", "green", "red"]
    rows = table.to_pylist()
    assert [row["error"] is None for row in rows] == [False, True, True, True]
    assert rows[0]["predicted"] is None and rows[0]["probabilities"] is None and rows[0]["item_id"]
    assert sum(rows[1]["probabilities"]) == pytest.approx(1)
    predict(_options(model, tmp_path / "images", table=tmp_path / "t.csv"))
    lines = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert [line["predicted"] for line in lines[1:]] == [row["predicted"] for row in rows[1:]]
    with pytest.raises(UsageError, match="neither"):
        predict(_options(model, tmp_path / "images", table=tmp_path / "t.txt"))


def test_names_that_are_not_text_are_escaped_in_tables(model: Path, labelled: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff.png")
    (tmp_path / "images").mkdir()
    shutil.copy(labelled / "val/red/0.png", tmp_path / "images" / name)
    for table in (tmp_path / "t.parquet", tmp_path / "t.csv"):
        predict(_options(model, tmp_path / "images", table=table))
    assert pq.read_table(tmp_path / "t.parquet")["image"].to_pylist() == [f"{tmp_path}/images/\\udcff.png"]
    assert f"{tmp_path}/images/\\udcff.png" in (tmp_path / "t.csv").read_text()


def test_every_unreadable_image_counts(model: Path, labelled: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    report = predict(_options(model, *3 * [tmp_path / "a.png"], labelled / "val/red/0.png"))
    assert (report.predicted, report.failed, len(report.unreadable)) == (1, 3, 1)


def test_a_table_that_cannot_be_written_is_told_before_the_work(model: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").write_text("")
    for table in (tmp_path / "folder.csv", tmp_path / "file/t.csv"):
        with pytest.raises(UsageError, match="folder"):
            predict(_options(model, tmp_path / "none", table=table))


def test_no_readable_image_is_an_error_and_leaves_no_table(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="none of the 1 images"):
        predict(_options(model, tmp_path / "a.png", table=tmp_path / "t.parquet"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no image in"):
        predict(_options(model, tmp_path / "empty"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "empty"]


def test_a_threshold_fitted_with_a_pool_is_kept(fresh: Path, labelled: Path, pool: Path) -> None:
    fitted = predict(_options(fresh, pool, reject_from=(str(pool),), reject_quantile=0.5))
    assert fitted.rejected == 10 and sum(fitted.classes.values()) == 10
    stored = json.loads((fresh / "rejection.json").read_text())
    assert (stored["quantile"], stored["images"], stored["pool"]) == (0.5, 20, [pool.name])
    found: list[Prediction] = []
    later = predict(_options(fresh, pool), found.append)
    assert later.rejected == 10 and sum(bool(one.rejected) for one in found) == 10
    assert predict(_options(fresh, pool, reject=False)).rejected is None
    every = predict(_options(fresh, pool, reject_from=(str(pool),), reject_quantile=1.0))
    assert every.rejected == 19  # all but the one at the threshold


def test_a_run_is_not_written_to(model: Path, pool: Path) -> None:
    run = model.parent / "run"
    before = sorted(path.name for path in run.iterdir())
    report = predict(_options(run, pool, reject_from=(str(pool),), reject_images=10))
    assert report.rejection is not None and report.rejection["images"] == 10
    assert sorted(path.name for path in run.iterdir()) == before


def test_options_that_do_not_fit(model: Path, pool: Path) -> None:
    for values in ({"reject_from": (str(pool),), "reject": False}, {"reject_quantile": 1.5}):
        with pytest.raises(UsageError):
            predict(_options(model, pool, **values))
    with pytest.raises(UsageError, match="not a model of an export"):
        predict(_options(model / "report.json", pool))
    with pytest.raises(DataError, match=r"has no model\.onnx"):
        predict(_options(model / "model.onnx", pool))


def test_json_and_lines(
    model: Path, labelled: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = ["predict", "--model", str(model), "--threads", "1", "--images"]
    listed = "\n".join(map(str, sorted((labelled / "val/red").iterdir()))).encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(listed)))
    outputs = []
    for arguments in ([*start, "-", "--json"], [*start, str(labelled / "val/red")]):
        with pytest.raises(SystemExit) as caught:
            run_cli(app, arguments)
        assert not caught.value.code
        outputs.append(capsys.readouterr().out)
    answer = json.loads(outputs[0])
    assert len(answer["predictions"]) == answer["summary"]["predicted"] == 4
    first = outputs[1].splitlines()[0].split("\t")
    assert first[0].endswith("val/red/0.png") and first[1] == answer["predictions"][0]["predicted"]
