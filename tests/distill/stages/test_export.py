import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from distill.cli import app
from distill.commands.export import _print_export
from distill.export.format import INT8, ONNX, check_files
from distill.loop.plan import Plan
from distill.models.student import MODEL, open_student
from distill.stages.evaluate import EvaluateOptions, evaluate
from distill.stages.export import export
from distill.stages.export_images import open_images
from distill.stages.export_options import NORMALISE, ExportOptions
from distill.stages.finetune import FinetuneOptions, finetune
from tests.distill.small import ONE_THREAD, TINY
from transferset.entry_point import run_cli
from transferset.errors import BusyError, DataError, NumericError, UsageError
from transferset.lock import DirectoryLock

pytestmark = pytest.mark.usefixtures("short_measurements")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, labelled: Path) -> Path:
    """A student that tells the noise apart."""
    out = tmp_path_factory.mktemp("run") / "run"
    plan = Plan(steps=40, batch_size=18, lr=1e-2)
    finetune(FinetuneOptions(labelled, out, student=TINY, image_size=32, plan=plan, execution=ONE_THREAD))
    return out


def _options(run: Path, out: Path, **values: object) -> ExportOptions:
    return replace(ExportOptions(run, out, execution=ONE_THREAD, batch_size=8), **values)  # type: ignore[arg-type]


def _needs_onnx() -> None:
    pytest.importorskip("onnx", reason="the extra `export` is not installed")
    pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, run: Path, labelled: Path) -> Path:
    _needs_onnx()
    out = tmp_path_factory.mktemp("exported") / "model"
    export(_options(run, out, data=labelled, int8=True, preprocessing=NORMALISE, max_drop=1.0))
    return out


def test_a_plain_export_needs_no_images_and_no_extra(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    report = export(_options(run, tmp_path / "out"))
    assert list(report.files) == [MODEL] and report.compared_on is None
    names = {"config.json", "labels.json", "manifest.json", "preprocessing.json", "README.md", "report.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*names, MODEL}
    assert (tmp_path / "out" / MODEL).read_bytes() == (run / MODEL).read_bytes()
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    assert np.array_equal(open_student(tmp_path / "out").logits(images), open_student(run).logits(images))
    for wanted in ({"onnx": True}, {"int8": True}):
        with pytest.raises(UsageError, match="needs onnx") as caught:
            export(_options(run, tmp_path / "other", **wanted))
        assert "transferset[export]" in str(caught.value.hint)
    assert not (tmp_path / "other").exists()


def test_a_run_whose_start_stayed_is_another_run_and_says_so(run: Path, tmp_path: Path) -> None:
    """The weights are the same."""
    export(_options(run, tmp_path / "out"))
    stayed = shutil.copytree(run, tmp_path / "stayed")
    report = json.loads((stayed / "report.json").read_text())
    (stayed / "report.json").write_text(json.dumps({**report, "chosen_step": 0}))
    with pytest.raises(UsageError, match="report: other content than there"):
        export(_options(stayed, tmp_path / "out"))
    export(_options(stayed, tmp_path / "other"))
    told = "of which none is kept: the start was better"
    cards = [(tmp_path / name / "README.md").read_text() for name in ("out", "other")]
    assert [told in card for card in cards] == [False, True]


def test_the_report_says_how_every_file_compares(exported: Path) -> None:
    manifest = check_files(exported)
    assert {MODEL, ONNX, INT8, "README.md"} <= manifest["files"].keys()
    report = json.loads((exported / "report.json").read_text())
    assert report["compared_on"] == {"images": 12, "score": report["score"], "split": "val"}
    onnx, int8 = report["files"][ONNX], report["files"][INT8]
    assert onnx["parity"]["max_difference"] < 1e-3 and onnx["parity"]["top1_changed"] == 0
    assert int8["parity"]["max_difference"] > 0 and int8["parity"]["drop"] is not None
    assert all(facts["speed"]["latency_ms"] > 0 for facts in report["files"].values())
    assert report["calibration_images"] == 16


def test_what_calibrates_does_not_judge(run: Path, labelled: Path) -> None:
    """Without a train split both come from the same images."""
    for given, split, compared, calibrating in (
        (labelled, None, 12, 18), (labelled / "train", None, 9, 9), (labelled, "train", 9, 9)
    ):  # fmt: skip
        images = open_images(
            _options(run, Path("out"), data=given, split=split, int8=True), given, open_student(run)
        )
        assert not set(images.compared) & set(images.calibrating)
        assert (len(images.compared), len(images.calibrating)) == (compared, calibrating)
    plain = open_images(
        _options(run, Path("out"), data=labelled / "train"), labelled / "train", open_student(run)
    )
    assert len(plain.compared) == 18


def test_the_card_tells_only_what_is_recorded(exported: Path, run: Path) -> None:
    card = (exported / "README.md").read_text()
    stored = json.loads((run / "report.json").read_text())
    assert f"after `distill finetune`: top-1 {100 * stored['score']:.1f} %" in card
    assert "`blue`, `green`, `red`" in card
    assert "runs do not record their licences" in card and "| teacher | none |" in card
    assert str(run) not in card and str(exported) not in card
    assert "uint8 (n, size, size, 3)" in card


@pytest.mark.parametrize("name", ["", MODEL, ONNX, INT8])
def test_every_form_can_be_evaluated(exported: Path, run: Path, labelled: Path, name: str) -> None:
    found = evaluate(EvaluateOptions(exported / name, labelled, split="val", execution=ONE_THREAD))
    assert found.kind == "export" and found.metrics["n"] == 12
    if name != INT8:
        of_run = evaluate(EvaluateOptions(run, labelled, split="val", execution=ONE_THREAD))
        assert found.metrics["nll"] == pytest.approx(of_run.metrics["nll"], abs=1e-4)


def test_without_a_test_split_an_export_gives_the_estimate_of_its_run(exported: Path, labelled: Path) -> None:
    found = evaluate(EvaluateOptions(exported, labelled, execution=ONE_THREAD))
    stored = json.loads((exported / "report.json").read_text())
    assert (found.kind, found.estimate, found.metrics["top1"]) == ("export", "val", stored["score"])
    with pytest.raises(DataError, match="holds no estimate"):  # the run's is not that of eight bits
        evaluate(EvaluateOptions(exported / INT8, labelled, execution=ONE_THREAD))


def test_again_is_nothing_and_other_arguments_are_refused(
    run: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = export(_options(run, tmp_path / "out"))
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    again = export(_options(run, tmp_path / "out"))
    assert "nothing to do" in capsys.readouterr().err
    assert json.dumps(asdict(again), sort_keys=True) == json.dumps(asdict(first), sort_keys=True)
    with pytest.raises(UsageError, match="seed: 0 there, 1 now"):
        export(_options(run, tmp_path / "out", seed=1))
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before
    with DirectoryLock(tmp_path / "out"), pytest.raises(BusyError):
        export(_options(run, tmp_path / "out"))
    weights = tmp_path / "out" / MODEL
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(DataError, match="damaged"):
        export(_options(run, tmp_path / "out"))
    with pytest.raises(DataError, match="damaged"):
        evaluate(EvaluateOptions(tmp_path / "out", labelled, split="val", execution=ONE_THREAD))


def test_nothing_is_left_of_an_export_that_differs(
    run: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _needs_onnx()
    out = tmp_path / "out"
    with pytest.raises(NumericError, match="does not answer as the run"):
        export(_options(run, out, data=labelled, onnx=True, tolerance=0.0))
    assert not out.exists()
    monkeypatch.setattr("distill.stages.export.publish", _interrupted)
    out.mkdir()
    with pytest.raises(KeyboardInterrupt):
        export(_options(run, out))
    assert list(out.iterdir()) == []


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_killed_export_is_done_again(run: Path, labelled: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(_options(run, out))
    (out / "manifest.json").unlink()  # what a kill before the end leaves
    (out / "report.json").unlink()
    (out / ".tmp-export").mkdir()
    (out / ".tmp-export" / "report.json").write_text("{}")
    with pytest.raises(DataError, match="not finished"):
        evaluate(EvaluateOptions(out, labelled, split="val", execution=ONE_THREAD))
    export(_options(run, out))
    check_files(out)
    assert not (out / ".tmp-export").exists()


def test_files_of_others_are_left_alone(run: Path, tmp_path: Path) -> None:
    (tmp_path / MODEL).write_bytes(b"mine")
    with pytest.raises(UsageError, match="not empty"):
        export(_options(run, tmp_path))
    assert (tmp_path / MODEL).read_bytes() == b"mine"


def test_what_does_not_fit(run: Path, teacher: Path, exported: Path, labelled: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for options, message in (
        (_options(teacher, out), "is a teacher"),
        (_options(exported, out), "is an export already"),
        (_options(run, out, preprocessing=NORMALISE), "for ONNX graphs"),
        (_options(run, out, onnx=True), "without --data"),
        (_options(run, out, data=labelled, split="validation"), "unknown --split"),
        (_options(run, out, split="val"), "--split without --data"),
        (_options(run, out, data=labelled / "val/red", int8=True), "no labels"),
        (_options(run, out, max_drop=2.0), "--max-drop"),
    ):
        with pytest.raises(UsageError, match=message):
            export(options)
    with pytest.raises(DataError, match="no test split"):
        export(_options(run, out, data=labelled, split="test"))
    shutil.copytree(labelled / "val", tmp_path / "data")
    (tmp_path / "data/red").rename(tmp_path / "data/violet")
    with pytest.raises(DataError, match="violet"):
        export(_options(run, out, data=tmp_path / "data"))
    assert not out.exists()


def test_scores_are_by_the_metric_that_selected_the_run(
    labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _needs_onnx()
    data, plan = shutil.copytree(labelled, tmp_path / "data"), Plan(steps=1, batch_size=4)
    for name in ("0.png", "1.png", "2.png"):
        (data / "val/red" / name).unlink()
    options = FinetuneOptions(data, tmp_path / "run", student=TINY, class_balanced=True, plan=plan)
    finetune(replace(options, image_size=32, execution=ONE_THREAD))
    out = tmp_path / "out"
    report = export(_options(tmp_path / "run", out, data=data, int8=True, max_drop=1.0))
    found = evaluate(EvaluateOptions(out / INT8, data, split="val", execution=ONE_THREAD)).metrics
    assert found["top1"] != pytest.approx(found["balanced_accuracy"], abs=1e-3)
    parity = json.loads((out / "report.json").read_text())["files"][INT8]["parity"]
    assert report.metric == "balanced_accuracy" and parity["score"] == found["balanced_accuracy"]
    of_run = evaluate(EvaluateOptions(tmp_path / "run", data, split="val", execution=ONE_THREAD)).metrics
    assert report.compared_on is not None and report.compared_on["score"] == of_run["balanced_accuracy"]
    stored = evaluate(EvaluateOptions(out, data, execution=ONE_THREAD)).metrics  # there is no test split
    assert (stored["top1"], stored["balanced_accuracy"]) == (None, report.score)
    _print_export(report)
    card = (out / "README.md").read_text()
    assert "balanced accuracy" in capsys.readouterr().out and "top-1" not in card
    assert "| balanced accuracy |" in card
    assert f"after `distill finetune`: balanced accuracy {100 * of_run['balanced_accuracy']:.1f} %" in card


def test_images_without_labels_compare_too(run: Path, labelled: Path, tmp_path: Path) -> None:
    _needs_onnx()
    report = export(_options(run, tmp_path / "out", data=labelled / "val/red", onnx=True))
    assert report.compared_on == {"images": 4, "score": None, "split": "all"}
    assert report.files[ONNX]["parity"]["top1_changed"] == 0


def test_a_graph_that_answers_otherwise_is_found(
    run: Path, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _needs_onnx()
    from distill.stages import export as stage

    write = stage.write_onnx

    def sloppy(student, path, with_preprocessing, opset):
        other = open_student(run)
        with torch.no_grad():
            other.module.get_classifier().bias.add_(torch.tensor([0.0, 0.01, 0.0]))
        write(other, path, with_preprocessing, opset)

    monkeypatch.setattr(stage, "write_onnx", sloppy)
    with pytest.raises(NumericError, match=r"differ by up to 0\.01"):
        export(_options(run, tmp_path / "out", data=labelled, onnx=True))


def test_on_the_command_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["export", "--model", str(run), "--out", str(tmp_path / "out"), "--threads", "1"]
    printed = []
    for more, code in (["--json"], 0), (["--seed", "4"], 2), ([], 0):
        with pytest.raises(SystemExit) as caught:
            run_cli(app, [*given, *more])
        output = capsys.readouterr()
        assert (caught.value.code or 0) == code, output.err
        printed.append(output.out)
    facts, refused, table = printed
    assert json.loads(facts)["spec"] == TINY and refused == ""
    assert MODEL in table and not table.startswith("{")


def test_the_card_follows_the_run_that_a_run_started_from(run: Path, labelled: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "first")
    options = FinetuneOptions(labelled, tmp_path / "second", from_run=tmp_path / "first")
    finetune(replace(options, plan=Plan(steps=1, batch_size=4), execution=ONE_THREAD))
    export(_options(tmp_path / "second", tmp_path / "a"))
    assert "| | `distill finetune` | `distill finetune` |" in (tmp_path / "a/README.md").read_text()
    shutil.rmtree(tmp_path / "first")  # its files are what is known of it
    export(_options(tmp_path / "second", tmp_path / "b"))
    assert "| | `distill finetune` |\n" in (tmp_path / "b/README.md").read_text()
