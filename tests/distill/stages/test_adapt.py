import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.data.rendered import Rendering
from distill.loop.run_directory import RunDirectory
from distill.models.heads import read_head
from distill.models.teacher import open_teacher
from distill.stages.adapt import AdaptOptions, adapt
from tests.distill.small import ONE_THREAD, TINY
from tests.distill.stages import killed
from transferset.errors import DataError, UsageError


def _options(data: Path, out: Path) -> AdaptOptions:
    return AdaptOptions(data, TINY, out, image_size=48, runtime="eager", execution=ONE_THREAD)


def _command(data: Path, out: Path) -> list[object]:
    """The command line of `_options`."""
    given: list[object] = ["adapt", "--data", data, "--teacher", TINY, "--image-size", 48, "--out", out]
    return [*given, "--runtime", "eager", "--device", "cpu", "--threads", 1, "--workers", 1]


@pytest.fixture
def unsplit(labelled: Path, tmp_path: Path) -> Path:
    """The training images alone, as class folders."""
    shutil.copytree(labelled / "train", tmp_path / "unsplit")
    return tmp_path / "unsplit"


def test_labels_without_splits_are_cross_validated(unsplit: Path, tmp_path: Path) -> None:
    report = adapt(_options(unsplit, tmp_path / "teacher"))
    assert report.judged_on == "cross-validation, 5 folds"
    assert report.estimate["n"] == 18 and report.estimate["top1"] >= 0.8
    low, high = report.estimate["top1_interval"]
    assert low < report.estimate["top1"] <= high
    best = min(report.trials, key=lambda trial: round(trial["loss"], 6))
    assert report.strength == best["strength"] and report.temperature == best["temperature"]


def test_the_opened_teacher_gives_the_calibrated_logits_of_its_head(teacher: Path, labelled: Path) -> None:
    opened = open_teacher(teacher, runtime="eager", batch_size=8, device="cpu", threads=1)
    assert opened.classes == ("blue", "green", "red")
    paths = sorted((labelled / "val").rglob("*.png"))
    batches = list(Rendering(opened.preprocessing, 8, 1).batches(paths))
    logits = np.concatenate([opened.logits(batch.pixels[: len(batch)]) for batch in batches])  # type: ignore[index]
    expected = [opened.classes.index(path.parent.name) for path in paths]
    assert np.mean(logits.argmax(axis=1) == expected) >= 0.8
    head = read_head(teacher / "head.safetensors")
    features = opened.model(batches[0].pixels)  # type: ignore[arg-type]
    np.testing.assert_allclose(head.logits(features), logits[: len(features)], rtol=1e-4, atol=1e-4)
    assert np.array_equal(opened.logits(batches[0].pixels[:3]), logits[:3])  # type: ignore[index]


def test_a_changed_head_is_refused(teacher: Path, tmp_path: Path) -> None:
    copy = tmp_path / "teacher"
    shutil.copytree(teacher, copy)
    (copy / "labels.json").write_text('["red", "green", "blue"]')
    with pytest.raises(DataError, match="damaged"):
        open_teacher(copy, runtime="eager")


def test_unreadable_images_are_left_out_and_a_class_without_any_is_named(
    unsplit: Path, tmp_path: Path
) -> None:
    (unsplit / "red" / "0.png").write_bytes(b"")
    report = adapt(_options(unsplit, tmp_path / "one"))
    assert report.dropped == 1 and report.images["train"] == 17
    for image in (unsplit / "red").iterdir():
        image.write_bytes(b"no image")
    with pytest.raises(DataError, match="class red"):
        adapt(_options(unsplit, tmp_path / "two"))


def test_again_it_is_complete_and_other_arguments_are_refused(
    unsplit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = _options(unsplit, tmp_path / "teacher")
    first = adapt(options)
    before = (options.out / "head.safetensors").read_bytes()
    assert adapt(options) == first
    assert "complete" in capsys.readouterr().err
    assert (options.out / "head.safetensors").read_bytes() == before
    with pytest.raises(UsageError, match="image_size"):
        adapt(replace(options, image_size=32))
    assert RunDirectory(options.out).report() is not None


def test_another_image_under_the_same_name_is_refused(unsplit: Path, tmp_path: Path) -> None:
    """Of the same size on disk."""
    image = unsplit / "red" / "0.png"
    options = _options(unsplit, tmp_path / "teacher")
    for shade in (10, 11):
        Image.new("RGB", (48, 48), (shade, 0, 0)).save(image, compress_level=0)
        if shade == 10:
            adapt(options)
    with pytest.raises(UsageError, match="data: other content than there"):
        adapt(options)


def test_a_precision_is_recorded_and_a_wrong_one_refused(unsplit: Path, tmp_path: Path) -> None:
    report = adapt(replace(_options(unsplit, tmp_path / "half"), precision="bf16"))
    assert (report.runtime["runtime"], report.runtime["precision"]) == ("eager", "bf16")
    with pytest.raises(UsageError, match="unknown --precision 'fp12'"):
        adapt(replace(_options(unsplit, tmp_path / "wrong"), precision="fp12"))
    assert not (tmp_path / "wrong" / "config.json").exists()


def test_one_class_is_no_task(unsplit: Path, tmp_path: Path) -> None:
    shutil.rmtree(unsplit / "red")
    shutil.rmtree(unsplit / "blue")
    with pytest.raises((DataError, UsageError), match="class"):
        adapt(_options(unsplit, tmp_path / "teacher"))


def test_a_run_killed_between_its_files_goes_on(unsplit: Path, tmp_path: Path) -> None:
    given = _command(unsplit, tmp_path / "killed")
    killed.kill(given, "distill.models.heads:write_head", 1)
    assert not (tmp_path / "killed" / "report.json").exists()
    assert list((tmp_path / "killed" / "features").glob("*.safetensors")), "what was computed is kept"
    resumed = killed.resume(given, "transferset.models.runtime:FrozenModel.__call__")
    assert resumed.calls == 0, "no feature is computed again"
    adapt(_options(unsplit, tmp_path / "whole"))
    heads = [(tmp_path / out / "head.safetensors").read_bytes() for out in ("whole", "killed")]
    assert heads[0] == heads[1]


def test_a_run_killed_within_its_features_keeps_what_is_on_the_disk(unsplit: Path, tmp_path: Path) -> None:
    given = [*_command(unsplit, tmp_path / "killed"), "--batch-size", 4]
    often = "from distill.data import features\nfeatures._FLUSH_SECONDS = 0"
    killed.kill(given, "distill.data.features:FeatureStore.add", 3, first=often)
    resumed = killed.resume(given, "transferset.models.runtime:FrozenModel.__call__")
    assert resumed.calls == 3 * 2, "two views of three of the five batches"
    adapt(replace(_options(unsplit, tmp_path / "whole"), batch_size=4))
    heads = [(tmp_path / out / "head.safetensors").read_bytes() for out in ("whole", "killed")]
    assert heads[0] == heads[1]


@pytest.mark.parametrize("report", [{}, {"out": "x"}, {"top1": 0.5}])
def test_a_foreign_report_is_not_taken_for_a_teachers(
    unsplit: Path, tmp_path: Path, report: dict[str, object]
) -> None:
    options = _options(unsplit, tmp_path / "teacher")
    adapt(options)
    (options.out / "report.json").write_text(json.dumps(report))
    with pytest.raises(DataError, match="not that of a teacher"):
        adapt(options)
