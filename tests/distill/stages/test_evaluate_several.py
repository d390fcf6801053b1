import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.cli import app
from distill.loop.plan import Plan
from distill.stages.adapt import AdaptOptions, adapt
from distill.stages.evaluate import EvaluateOptions, evaluate
from distill.stages.evaluate_several import evaluate_several
from distill.stages.finetune import FinetuneOptions, finetune
from tests.distill.small import ONE_THREAD, TINY
from transferset.entry_point import run_cli
from transferset.errors import DataError, UsageError


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory, labelled: Path) -> list[Path]:
    """Two more teachers, of other seeds."""
    outs = [tmp_path_factory.mktemp("others") / str(seed) for seed in (1, 2)]
    for seed, out in enumerate(outs, start=1):
        given = AdaptOptions(
            labelled, TINY, out, image_size=48, runtime="eager", seed=seed, execution=ONE_THREAD
        )
        adapt(given)
    return outs


def options(data: Path, model: Path, split: str = "val") -> EvaluateOptions:
    return EvaluateOptions(model, data, split=split, runtime="eager", execution=ONE_THREAD)


def test_runs_of_a_recipe(labelled: Path, teacher: Path, others: list[Path]) -> None:
    given = options(labelled, teacher)
    found = evaluate_several(given, [teacher, *others])
    single = evaluate(given)
    assert found.models[0] == single and found.images == 12 and not found.difference
    scores = [one.metrics["top1"] for one in found.models]
    assert found.over_models["top1"].mean == pytest.approx(np.mean(scores))
    assert found.over_models["top1"].std == pytest.approx(np.std(scores, ddof=1))
    assert [one["top1"].mean for one in found.to_first] == pytest.approx([s - scores[0] for s in scores[1:]])


def test_one_recipe_against_another(labelled: Path, teacher: Path, others: list[Path]) -> None:
    found = evaluate_several(options(labelled, teacher), [teacher], others)
    gap = found.over_models["balanced_accuracy"].mean - found.over_against["balanced_accuracy"].mean
    assert found.difference["balanced_accuracy"].mean == pytest.approx(gap)
    assert found.difference["top1"].runs == (1, 2) and not found.to_first
    assert json.dumps(found.to_dict())


def test_what_can_not_be_compared(labelled: Path, teacher: Path, others: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="twice"):
        evaluate_several(options(labelled, teacher), [teacher], [teacher])
    with pytest.raises(DataError, match="no test images to compare"):
        evaluate_several(options(labelled, teacher, "test"), [teacher], others)


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command(
    labelled: Path, teacher: Path, others: list[Path], as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", "--model", str(teacher), "--against", str(others[0]), "--data", str(labelled)]
    arguments += ["--split", "val", "--runtime", "eager", "--device", "cpu", "--threads", "1"]
    arguments += ["--seed", "3"]
    with pytest.raises(SystemExit) as ended:
        run_cli(app, [*arguments, "--json"] if as_json else arguments)
    assert ended.value.code == 0
    out = capsys.readouterr().out
    if as_json:
        found = evaluate_several(replace(options(labelled, teacher), seed=3), [teacher], others[:1])
        assert json.loads(out) == json.loads(json.dumps(found.to_dict()))
    else:
        assert "A - B" in out and not out.startswith("{")


def test_test_images_that_were_learnt_are_told_of(
    labelled: Path,
    teacher: Path,
    tmp_path: Path,
    noise: Callable[[int, int], np.ndarray],
    encode: Callable[..., bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "data" / "test" / "red"
    folder.mkdir(parents=True)
    shutil.copy(labelled / "train/red/0.png", folder / "learnt.png")
    (folder / "new.png").write_bytes(encode(noise(2, 5000), "png"))
    found = evaluate(options(tmp_path / "data", teacher, "test"))
    assert found.learnt == 1 and found.to_dict()["learnt"] == 1
    assert "1 of 2 test images are images that the model was trained with" in capsys.readouterr().err


def test_what_a_run_was_gone_on_from_has_learnt_counts_too(
    labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given: dict[str, Any] = {"plan": Plan(steps=1, batch_size=8), "execution": ONE_THREAD}
    data = shutil.copytree(labelled, tmp_path / "first")
    finetune(FinetuneOptions(data, tmp_path / "a", student=TINY, image_size=32, **given))
    second = shutil.copytree(labelled, tmp_path / "second")
    shutil.move(second / "train/red/0.png", tmp_path / "gone.png")
    finetune(FinetuneOptions(second, tmp_path / "b", from_run=tmp_path / "a", **given))
    shutil.copytree(labelled / "train/red", tmp_path / "data/test/red")
    assert evaluate(options(tmp_path / "data", tmp_path / "b", "test")).learnt == 6
    assert "6 of 6 test images are images that the model was trained with" in capsys.readouterr().err
