"""A run whose numbers go wrong, and a look at the step where they did."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from distill.cli import main
from distill.loop.plan import Plan
from distill.stages.finetune import FinetuneOptions, finetune
from distill.stages.replay import replay
from distill.stages.train import TrainOptions, train
from tests.distill.small import ONE_THREAD, TINY
from transferset.errors import DataError, NumericError, UsageError
from transferset.writes import read_json, sha256_file, write_json


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, labelled: Path) -> Path:
    """A run that an absurd learning rate has broken."""
    out = tmp_path_factory.mktemp("broken") / "run"
    plan = Plan(steps=12, batch_size=4, lr=1e30)
    with pytest.raises(NumericError, match="3 steps in a row") as error:
        finetune(FinetuneOptions(labelled, out, student=TINY, image_size=32, plan=plan, execution=ONE_THREAD))
    assert "distill replay" in str(error.value.hint)
    return out


def test_it_shows_the_layer_that_overflows(broken: Path) -> None:
    report = replay(broken)
    lines = [json.loads(line) for line in (broken / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if line.get("event") == "skipped"][-1]
    assert report.step == last["step"] and report.samples == last["samples"] and report.bad_targets == []
    assert report.path.endswith(last["replay"])
    [now] = report.now
    assert now.mode.startswith("fp32") and now.layer is not None and now.loss is None
    assert len(now.rows) == report.images == 4
    assert replay(Path(report.path)) == report, "the same numbers every time"
    assert replay(Path(report.path).with_suffix(".json"), "auto") == report, "either of the two files"
    with pytest.raises(UsageError, match="cuda"):
        replay(broken, "cuda:7")


def test_a_wrong_target_is_found(broken: Path, tmp_path: Path) -> None:
    """The weights are those of the start again; one target is damaged."""
    path = Path(replay(broken).path)
    out = broken / "replay" / "other" / path.name
    out.parent.mkdir(exist_ok=True)
    tensors = load_file(path)
    for name, tensor in tensors.items():
        if name.startswith("model.") and tensor.is_floating_point():
            tensors[name] = torch.ones_like(tensor) if name.endswith("_var") else tensor.clamp(-0.1, 0.1)
    tensors["targets"] = torch.zeros(4, 3)
    tensors["targets"][2, 0] = float("nan")
    save_file(tensors, out)
    facts = read_json(path.with_suffix(".json"))
    facts["loss"] = {"class": "distill.methods.task_oriented:TaskOriented", "fields": {"temperature": 1.0}}
    facts["mode"]["precision"] = "bf16"
    write_json(out.with_suffix(".json"), {**facts, "sha256": sha256_file(out)})
    report = replay(out)
    assert report.bad_targets == [2] and [now.mode[:4] for now in report.now] == ["bf16", "fp32"]
    for now in report.now:
        assert now.layer is None and now.rows == [] and now.gradient_layer == "classifier"
        assert now.loss is None and "classifier.weight" in now.parameters
    shutil.rmtree(out.parent)


def test_a_student_of_patches(tmp_path: Path, noise_tar: Callable[..., Path], teacher: Path) -> None:
    """Its step holds a projection and a wider last layer, which the finished student lacks."""
    options = TrainOptions((noise_tar(24),), teacher, TINY, tmp_path / "run", method="task-agnostic")
    plan = Plan(steps=12, batch_size=4, lr=1e30)
    given = {"feature_loss": "patches", "image_size": 64, "runtime": "eager", "execution": ONE_THREAD}
    with pytest.raises(NumericError, match="3 steps in a row"):
        train(replace(options, plan=plan, **given))  # type: ignore[arg-type]
    [now] = replay(tmp_path / "run").now
    assert now.layer is not None and len(now.rows) == 4


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command(
    broken: Path, as_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["distill", "replay", str(broken), *(["--json"] if as_json else [])])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    told = capsys.readouterr().out
    if as_json:
        assert json.loads(told)["now"][0]["layer"]
    else:
        assert "first layer" in told and not told.startswith("{")


def test_a_run_without_failed_steps(tmp_path: Path, teacher: Path) -> None:
    with pytest.raises(DataError, match="has kept no step"):
        replay(teacher)
    (tmp_path / "step-00000001.safetensors").write_bytes(b"")
    with pytest.raises(DataError):
        replay(tmp_path)
