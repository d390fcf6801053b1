"""Graphs that take decoded images of any size: exported, evaluated, asked, and refused where they differ."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distill.cli import app
from distill.export.format import INT8, ONNX
from distill.loop.plan import Plan
from distill.models.student import MODEL
from distill.predictions import Prediction
from distill.stages.evaluate import EvaluateOptions, evaluate
from distill.stages.export import export
from distill.stages.export_options import NORMALISE, RESIZE, ExportOptions
from distill.stages.finetune import FinetuneOptions, finetune
from distill.stages.predict import PredictOptions, predict
from tests.distill.small import ONE_THREAD, TINY
from transferset.entry_point import run_cli
from transferset.errors import NumericError, UsageError
from transferset.models.preprocessing import Preprocessing

pytest.importorskip("onnx", reason="the extra `export` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")

SIZES = ((64, 48), (48, 64), (30, 30), (200, 150), (33, 90))
Picture = Callable[..., np.ndarray]


pytestmark = pytest.mark.usefixtures("short_measurements")


def _fill(
    folder: Path, sizes: tuple[tuple[int, int], ...], seed: int, picture: Picture, encode: Callable
) -> None:
    """Smooth pictures, red ones and blue ones."""
    for number, (width, height) in enumerate(sizes):
        for channel, label in ((0, "red"), (2, "blue")):
            rgb = picture(width, height, seed + 10 * channel + number).copy()
            rgb[..., channel] = 128 + rgb[..., channel] // 2
            rgb[..., 2 - channel] //= 2
            (folder / label).mkdir(parents=True, exist_ok=True)
            (folder / label / f"{number}.jpg").write_bytes(encode(rgb, quality=95))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, picture: Picture, encode: Callable) -> Path:
    """Pictures of several sizes, in train and test."""
    root = tmp_path_factory.mktemp("pictures")
    for split, seed in (("train", 0), ("test", 100)):
        _fill(root / split, SIZES, seed, picture, encode)
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    out, plan = tmp_path_factory.mktemp("run") / "run", Plan(steps=30, batch_size=8, lr=5e-3)
    options = FinetuneOptions(pictures, out, student=TINY, image_size=32, plan=plan, folds=0)
    finetune(replace(options, execution=ONE_THREAD))
    return out


def _options(run: Path, out: Path, data: Path, **values: object) -> ExportOptions:
    options = ExportOptions(run, out, data=data, onnx=True, preprocessing=RESIZE, execution=ONE_THREAD)
    return replace(options, **values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, run: Path, pictures: Path) -> Path:
    out = tmp_path_factory.mktemp("exported") / "model"
    export(_options(run, out, pictures, int8=True, max_drop=1.0))
    return out


def test_the_report_tells_both_differences(exported: Path) -> None:
    report = json.loads((exported / "report.json").read_text())
    parity = report["files"][ONNX]["parity"]
    assert report["compared_on"]["images"] == 10 and parity["to_pillow"]["images"] == 10
    assert 0 < parity["to_pillow"]["max_difference"] < 0.1
    assert "to_pillow" not in report["files"][INT8]["parity"]
    preprocessing = Preprocessing.from_dict(json.loads((exported / "preprocessing.json").read_text()))
    given = {name: facts["speed"]["image_size"] for name, facts in report["files"].items()}
    twice = 2 * preprocessing.resize_short_side
    assert given == {MODEL: 32, ONNX: twice, INT8: twice}
    batches = {name: facts["speed"]["batch_size"] for name, facts in report["files"].items()}
    assert batches == {MODEL: 64, ONNX: 1, INT8: 1}
    card = (exported / "README.md").read_text()
    assert (
        "uint8 (1, h, w, 3) RGB, one image of any size" in card and "same pixels, resized by Pillow" in card
    )


def test_anyone_can_run_it_on_a_decoded_image(exported: Path, run: Path, pictures: Path) -> None:
    """With nothing of this package but what checks the answer."""
    import onnxruntime
    from PIL import Image

    session = onnxruntime.InferenceSession(exported / ONNX, providers=["CPUExecutionProvider"])
    for model, near in ((run, 0.03), (exported / ONNX, 1e-4)):
        found: list[Prediction] = []
        predict(PredictOptions(model, (str(pictures / "test/red"),), execution=ONE_THREAD), found.append)
        assert len(found) == len(SIZES)
        for prediction in found:
            pixels = np.asarray(Image.open(prediction.image).convert("RGB"))[None]
            (logits,) = session.run(["logits"], {"images": pixels})
            exponents = np.exp(logits[0] - logits[0].max())
            assert logits.shape == (1, 2) and prediction.probabilities is not None
            assert np.allclose(exponents / exponents.sum(), prediction.probabilities, atol=near)


@pytest.mark.parametrize("name", [ONNX, INT8])
def test_it_is_evaluated(exported: Path, run: Path, pictures: Path, name: str, tmp_path: Path) -> None:
    data = shutil.copytree(pictures, tmp_path / "data")
    (data / "test/red/1.jpg").write_bytes((data / "test/red/1.jpg").read_bytes()[:-200])
    found = evaluate(EvaluateOptions(exported / name, data, execution=ONE_THREAD, batch_size=64))
    assert found.kind == "export" and found.metrics["n"] == 9 and len(found.unreadable) == 1
    if name == ONNX:
        of_run = evaluate(EvaluateOptions(run, data, execution=ONE_THREAD))
        assert found.metrics["nll"] == pytest.approx(of_run.metrics["nll"], abs=0.02)


def test_it_predicts(exported: Path, run: Path, pictures: Path, tmp_path: Path) -> None:
    images = shutil.copytree(pictures / "test", tmp_path / "images")
    (images / "blue/0.jpg").write_bytes(b"GIF89a")
    answers: list[list[Prediction]] = []
    for model in (exported / ONNX, exported):
        found: list[Prediction] = []
        report = predict(PredictOptions(model, (str(images),), execution=ONE_THREAD), found.append)
        assert report.predicted == 9 and len(report.unreadable) == 1
        answers.append(found)
    graph, weights = answers
    assert [one.image for one in graph] == [one.image for one in weights]
    for one, other in zip(graph, weights, strict=True):
        assert (one.error is None) == (other.error is None)
        if one.probabilities is not None and other.probabilities is not None:
            assert np.allclose(one.probabilities, other.probabilities, atol=0.03)
    fitted = PredictOptions(exported / ONNX, (str(images),), reject_from=(str(images),), reject_quantile=0.5)
    copy = shutil.copytree(exported, tmp_path / "copy")
    rejected = predict(replace(fitted, model=copy / ONNX, execution=ONE_THREAD)).rejected
    assert rejected is not None and 0 < rejected < 9


def test_an_image_that_scaling_makes_too_large_is_unreadable(
    exported: Path, encode: Callable, tmp_path: Path
) -> None:
    (tmp_path / "wide.png").write_bytes(encode(np.zeros((1, 9000, 3), np.uint8), "png"))
    (tmp_path / "small.png").write_bytes(encode(np.zeros((40, 40, 3), np.uint8), "png"))
    report = predict(
        PredictOptions(exported / ONNX, (str(tmp_path),), max_pixels=500_000, execution=ONE_THREAD)
    )
    assert report.predicted == 1 and "too long for a model that resizes" in str(report.unreadable)


def _with(monkeypatch: pytest.MonkeyPatch, **values: object) -> None:
    """Graphs that resize otherwise than the run does."""
    from distill.stages import export as stage

    put = stage.put_before
    monkeypatch.setattr(stage, "put_before", lambda path, own: put(path, replace(own, **values)))  # type: ignore[arg-type]


def test_another_resize_is_found(
    run: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with(monkeypatch, crop_pct=0.7)
    with pytest.raises(NumericError, match="does not answer as the run on Pillow's pixels"):
        export(_options(run, tmp_path / "out", pictures))
    assert not (tmp_path / "out").exists()


def test_what_is_right_for_one_size_only_is_found(
    run: Path, picture: Picture, encode: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On square images `squash` and `shortest` are the same."""
    _fill(tmp_path / "data", ((48, 48), (64, 64)), 0, picture, encode)
    _with(monkeypatch, resize="squash")
    with pytest.raises(NumericError, match="shown parts of images, does not answer as"):
        export(_options(run, tmp_path / "out", tmp_path / "data"))


def test_options_that_do_not_fit(run: Path, pictures: Path, tmp_path: Path) -> None:
    for values, message in (
        ({"preprocessing": "crop"}, "unknown --preprocessing 'crop'"),
        ({"onnx": False}, "--preprocessing is for ONNX graphs"),
    ):
        with pytest.raises(UsageError, match=message):
            export(_options(run, tmp_path / "out", pictures, **values))
    other = shutil.copytree(run, tmp_path / "run")
    facts = json.loads((other / "preprocessing.json").read_text())
    (other / "preprocessing.json").write_text(json.dumps({**facts, "interpolation": "lanczos"}))
    with pytest.raises(UsageError, match="resized by lanczos"):
        export(_options(other, tmp_path / "out", pictures))
    assert not (tmp_path / "out").exists()


def test_another_preprocessing_is_another_export(
    run: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [
        "export",
        "--model",
        run,
        "--out",
        tmp_path / "out",
        "--data",
        pictures,
        "--onnx",
        "--threads",
        1,
    ]
    for more, told, code in (
        (["--preprocessing", NORMALISE], "", 0),
        (["--preprocessing", NORMALISE], "nothing to do", 0),
        ([], "preprocessing: normalise there, none now", 2),
        (["--preprocessing", RESIZE], "preprocessing: normalise there, resize now", 2),
    ):
        with pytest.raises(SystemExit) as caught:
            run_cli(app, [str(one) for one in (*given, *more)])
        output = capsys.readouterr()
        assert (caught.value.code or 0) == code and told in output.err, output.err
    config = json.loads((tmp_path / "out/config.json").read_text())["arguments"]
    assert config["tolerance"] == 1e-3 and config["preprocessing"] == NORMALISE
