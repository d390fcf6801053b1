"""Finetuned teachers: never worse than the frozen one on what judges, whole in their directory, resumed to
the bit."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from distill.data.rendered import Rendering
from distill.loop.plan import Plan
from distill.loop.run_directory import RunDirectory
from distill.metrics import log_softmax
from distill.models.teacher import open_teacher
from distill.models.text_head import TextOptions
from distill.stages.adapt import adapt
from distill.stages.adapt_options import AdaptOptions, Tuning
from distill.stages.evaluate import EvaluateOptions, evaluate
from distill.stages.label import LabelOptions, label
from distill.stages.replay import replay
from distill.stages.train import TrainOptions, train
from distill.stages.tuning_inputs import held_out_path, read_logits
from tests.distill.small import ONE_THREAD, TINY
from tests.distill.stages import killed
from transferset.errors import DataError, NumericError, UsageError
from transferset.models.backbone import load_backbone

LP_FT = Tuning("lp-ft", Plan(steps=40, batch_size=12, lr=1e-3, eval_every=10), augment="none")


@pytest.fixture(scope="module")
def faint(tmp_path_factory: pytest.TempPathFactory, encode: Callable[..., bytes]) -> Path:
    """Noise that is a little red, green or blue: too little for the features of a random model."""
    root = tmp_path_factory.mktemp("faint")
    for start, split, count in ((0, "train", 8), (100, "val", 12)):
        for channel, name in enumerate(("blue", "green", "red")):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                rng = np.random.default_rng(start + 3 * number + channel)
                rgb = rng.integers(0, 120, (32, 32, 3), dtype=np.uint8)
                rgb[..., 2 - channel] += 6
                (root / split / name / f"{number}.png").write_bytes(encode(rgb, "png"))
    return root


def _options(data: Path, out: Path, tuning: Tuning = LP_FT, **values: object) -> AdaptOptions:
    return AdaptOptions(
        data, TINY, out, image_size=32, runtime="eager", execution=ONE_THREAD, tuning=tuning, **values
    )  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tuned(faint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher whose backbone is kept as finetuned."""
    out = tmp_path_factory.mktemp("tuned") / "teacher"
    adapt(_options(faint, out))
    return out


def _open(directory: Path, runtime: str = "eager") -> tuple[np.ndarray, str]:
    """Logits for a few images, and the fingerprint."""
    opened = open_teacher(directory, runtime=runtime, batch_size=4, device="cpu", threads=1)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    return opened.logits(images), opened.fingerprint


def test_the_best_candidate_is_kept_and_told(tuned: Path, faint: Path) -> None:
    report = json.loads((tuned / "report.json").read_text())
    candidates = report["candidates"]
    assert [one["step"] for one in candidates] == [0, 10, 20, 30, 40] and report["tune"] == "lp-ft"
    best = candidates[report["chosen"]]
    fair = [one for one in candidates if one["score"] >= candidates[0]["score"]]
    assert report["chosen"] > 0 and best["loss"] == min(one["loss"] for one in fair) < candidates[0]["loss"]
    assert report["temperature"] == best["temperature"] and report["judged_on"] == "val"
    assert report["costs"]["tuning"]["images"] == 40 * 12 and report["costs"]["tuning"]["flops"] > 0
    found = evaluate(EvaluateOptions(tuned, faint, split="val", runtime="eager", execution=ONE_THREAD))
    assert found.metrics["top1"] == pytest.approx(report["estimate"]["top1"]) == best["score"]
    assert found.metrics["nll"] == pytest.approx(report["estimate"]["nll"], abs=1e-4)
    assert not (tuned / "checkpoints").exists()


def test_its_backbone_is_in_the_directory_and_not_the_one_that_was_given(tuned: Path, tmp_path: Path) -> None:
    config = json.loads((tuned / "config.json").read_text())
    assert config["backbone"]["file"] == "backbone.safetensors"
    assert config["backbone"]["weights_sha256"] != config["inputs"]["weights_sha256"]
    shutil.copytree(tuned, tmp_path / "moved")
    first, second = _open(tuned), _open(tmp_path / "moved")
    assert np.array_equal(first[0], second[0]) and first[1] == second[1]
    before = load_backbone(TINY, image_size=32).module.state_dict()
    after = load_file(tuned / "backbone.safetensors")
    assert before.keys() == after.keys()
    assert any(not before[name].equal(tensor) for name, tensor in after.items())
    statistics = [name for name in after if "running" in name]
    assert statistics
    for name in statistics:
        assert before[name].equal(after[name]), "batch norms keep the statistics of pretraining"


@pytest.mark.parametrize("damage", ["missing", "text", "other weights", "other model"])
def test_damage_to_its_backbone_is_found(tuned: Path, tmp_path: Path, damage: str) -> None:
    shutil.copytree(tuned, tmp_path / "copy")
    file = tmp_path / "copy" / "backbone.safetensors"
    weights = load_file(file)
    if damage == "missing":
        file.unlink()
    elif damage == "text":
        file.write_text("nothing")
    elif damage == "other weights":
        weights["conv_stem.weight"] *= 1.001
        save_file(weights, file)
    else:
        save_file({"conv_stem.weight": weights["conv_stem.weight"]}, file)
    with pytest.raises(DataError, match=r"backbone\.safetensors"):
        open_teacher(tmp_path / "copy", runtime="eager")


def test_it_runs_on_openvino_too(tuned: Path) -> None:
    pytest.importorskip("openvino")
    eager, other = _open(tuned)[0], _open(tuned, "openvino")[0]
    np.testing.assert_allclose(other, eager, rtol=0.02, atol=0.02)


def test_it_labels_as_it_answers(
    tuned: Path, faint: Path, tmp_path: Path, write_tar: Callable[..., Path]
) -> None:
    paths = sorted((faint / "val").rglob("*.png"))
    tar = write_tar(
        tmp_path / "shard.tar", {f"{place:02d}.png": path.read_bytes() for place, path in enumerate(paths)}
    )
    options = LabelOptions(
        (str(tar),), tuned, tmp_path / "store", views=1, augment="none", runtime="eager",
        table=tmp_path / "table.parquet", execution=ONE_THREAD,
    )  # fmt: skip
    assert label(options).images == len(paths)
    opened = open_teacher(tuned, runtime="eager", batch_size=64, threads=1)
    [batch] = Rendering(opened.preprocessing, 64, 1).batches(paths)
    import pyarrow.parquet as pq

    stored = np.array(pq.read_table(tmp_path / "table.parquet")["probabilities"].to_pylist())
    logits = opened.logits(batch.pixels)  # type: ignore[arg-type]
    odds = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.sort(stored, axis=0), np.sort(odds, axis=0), atol=2e-3)


def test_a_student_learns_from_it(
    tuned: Path, faint: Path, tmp_path: Path, write_tar: Callable[..., Path]
) -> None:
    images = sorted((faint / "train").rglob("*.png"))
    tar = write_tar(
        tmp_path / "shard.tar", {f"{place:02d}.png": path.read_bytes() for place, path in enumerate(images)}
    )
    options = TrainOptions(
        shards=(str(tar),), teacher=tuned, student=TINY, out=tmp_path / "run", image_size=32,
        plan=Plan(steps=2, batch_size=8), runtime="eager", execution=ONE_THREAD,
    )  # fmt: skip
    assert train(options).steps == 2
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert json.loads((tuned / "report.json").read_text())["fingerprint"] in json.dumps(config)


def test_it_never_loses_to_the_frozen_teacher(faint: Path, tmp_path: Path) -> None:
    frozen = adapt(_options(faint, tmp_path / "frozen", Tuning()))
    ruinous = replace(LP_FT, plan=Plan(steps=4, batch_size=12, lr=10.0))
    report = adapt(_options(faint, tmp_path / "ruined", ruinous))
    assert report.chosen == 0 and len(report.candidates) == 5
    assert report.estimate == frozen.estimate and report.fingerprint == frozen.fingerprint
    assert not (tmp_path / "ruined" / "backbone.safetensors").exists()
    assert np.array_equal(_open(tmp_path / "ruined")[0], _open(tmp_path / "frozen")[0])


def test_only_the_last_blocks_learn(faint: Path, tmp_path: Path) -> None:
    few = Tuning("partial", Plan(steps=2, batch_size=12, lr=1e-3), blocks=2, augment="none")
    adapt(_options(faint, tmp_path / "teacher", few))
    with pytest.raises(UsageError, match="--blocks 6: the model has 6 parts") as error:
        adapt(_options(faint, tmp_path / "other", replace(few, blocks=6)))
    assert "1 to 5" in str(error.value.hint) and not (tmp_path / "other").exists()


def test_retention_keeps_it_closer_to_the_frozen_teacher(
    faint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.stages.adaptation.remove_pieces", lambda out: None)
    adapt(_options(faint, tmp_path / "frozen", Tuning()))
    opened = open_teacher(tmp_path / "frozen", runtime="eager", batch_size=64, threads=1)
    [batch] = Rendering(opened.preprocessing, 64, 1).batches(sorted((faint / "val").rglob("*.png")))
    before = log_softmax(opened.logits(batch.pixels))  # type: ignore[arg-type]
    divergences = []
    for weight in (0.0, 10.0):
        plan = Plan(steps=20, batch_size=12, lr=1e-3, eval_every=20)
        out = tmp_path / str(weight)
        report = adapt(_options(faint, out, Tuning("lp-ft", plan, augment="none", retention=weight)))
        assert ("retention" in report.costs) is bool(weight)
        ran = {name: cost["flops"] / cost["images"] for name, cost in report.costs.items() if cost["flops"]}
        assert ran["features"] < ran["evaluate"] < ran["tuning"]  # the head is the difference
        assert ran.get("retention", ran["features"]) == ran["features"]
        after = log_softmax(read_logits(held_out_path(out / "checkpoints", 20)))
        divergences.append(float(np.mean(np.sum(np.exp(before) * (before - after), axis=1))))
    assert 0 <= divergences[1] < divergences[0] / 2


def test_labels_without_val_are_cross_validated(faint: Path, tmp_path: Path) -> None:
    plan = Plan(steps=10, batch_size=12, lr=1e-3, eval_every=5)
    options = _options(faint / "train", tmp_path / "teacher", replace(LP_FT, plan=plan), folds=2)
    report = adapt(options)
    assert report.judged_on == "cross-validation, 2 folds" and report.estimate["n"] == 24
    assert [one["step"] for one in report.candidates] == [0, 5, 10]
    best, first = report.candidates[report.chosen], report.candidates[0]
    assert best["loss"] <= first["loss"] and best["score"] >= first["score"]
    parts = {entry.get("part") for entry in RunDirectory(options.out).metrics()}
    assert {"fold-0", "fold-1"} <= parts
    assert adapt(options) == report


def _command(data: Path, out: Path, *more: object) -> list[object]:
    given: list[object] = ["adapt", "--data", data, "--teacher", TINY, "--image-size", 32, "--out", out]
    given += ["--runtime", "eager", "--device", "cpu", "--threads", 1, "--workers", 1, "--tune", "lp-ft"]
    return [*given, "--augment", "none", "--train-batch-size", 12, "--lr", 1e-3, *more]


def test_a_killed_run_ends_with_the_same_bits(tuned: Path, faint: Path, tmp_path: Path) -> None:
    given = _command(faint, tmp_path / "killed", "--steps", 40, "--eval-every", 10, "--checkpoint-every", 6)
    killed.kill(given, killed.TRAIN_STEP, 27)
    assert not (tmp_path / "killed" / "report.json").exists()
    assert killed.resume(given, killed.TRAIN_STEP).calls == 40 - 24
    for name in ("backbone.safetensors", "head.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tuned / name).read_bytes()
    assert _open(tmp_path / "killed")[1] == _open(tuned)[1]


def test_a_run_killed_in_a_fold_does_whole_folds_once(faint: Path, tmp_path: Path) -> None:
    data, folds = faint / "train", ["--folds", 2, "--steps", 8, "--eval-every", 4, "--checkpoint-every", 3]
    given = _command(data, tmp_path / "killed", *folds, "--retention", 0.5)
    killed.kill(given, killed.TRAIN_STEP, 8 + 5)
    first = killed.resume(given, killed.TRAIN_STEP)
    plan = Plan(steps=8, batch_size=12, lr=1e-3, eval_every=4, checkpoint_every=3)
    tuning = Tuning("lp-ft", plan, augment="none", retention=0.5)
    whole = adapt(_options(data, tmp_path / "whole", tuning, folds=2))
    report = json.loads((tmp_path / "killed" / "report.json").read_text())
    assert report["candidates"] == whole.candidates and report["fingerprint"] == whole.fingerprint
    kept = whole.candidates[whole.chosen]["step"]
    assert first.calls == 8 - 3 + kept


def test_options_that_do_not_fit(faint: Path, tmp_path: Path) -> None:
    def refused(match: str, tuning: Tuning, **values: object) -> None:
        with pytest.raises(UsageError, match=match):
            adapt(_options(faint, tmp_path / "out", tuning, **values))
        assert not (tmp_path / "out").exists()

    refused("unknown --tune 'everything'", Tuning("everything"))
    refused("--blocks is for --tune partial", Tuning("full", blocks=2))
    refused("--retention is for finetuning, and the backbone is to stay frozen", Tuning(retention=1.0))
    refused("--blocks, --lr is for finetuning", Tuning(plan=Plan(batch_size=32, lr=0.1), blocks=2))
    refused("--layer-decay 1.5", Tuning("full", layer_decay=1.5))
    refused("--retention", Tuning("full", retention=-1))
    refused("unknown --init 'names'", Tuning(), init="names")
    refused("no text tower and can't embed class names", Tuning(), init="text")
    named = TextOptions(class_names={"red": "a red thing"})
    refused("no text tower and can't embed class names", Tuning(), text=named)
    refused("are for --init text", Tuning(), init="probe", text=named)


def test_other_arguments_of_finetuning_are_refused(tuned: Path, faint: Path) -> None:
    with pytest.raises(UsageError, match=r"tuning\.layer_decay: 0\.8 there, 0\.5 now"):
        adapt(_options(faint, tuned, replace(LP_FT, layer_decay=0.5)))
    with pytest.raises(UsageError, match=r"tuning\.lr"):
        adapt(_options(faint, tuned, Tuning()))


def test_steps_that_fail_are_kept_and_replayed(faint: Path, tmp_path: Path) -> None:
    """In the precision that was asked for, which a resumed run obeys."""
    broken = replace(LP_FT, mode="partial", plan=replace(LP_FT.plan, lr=1e30))
    half = replace(ONE_THREAD, student_precision="bf16")
    with pytest.raises(NumericError, match="3 steps in a row") as error:
        adapt(replace(_options(faint, tmp_path / "teacher", broken), execution=half))
    assert "distill replay" in str(error.value.hint)
    found = replay(tmp_path / "teacher")
    assert found.images == 12 and [now.mode[:4] for now in found.now] == ["bf16", "fp32"]
    assert all(now.layer is not None for now in found.now)
    config = json.loads((tmp_path / "teacher" / "config.json").read_text())
    assert config["resolved"]["student_mode"]["precision"] == "bf16"
