"""Teacher directories: opened anywhere, proven by hashes, refused with a reason."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from distill.models.heads import LinearHead, read_head, write_head
from distill.models.teacher import open_teacher, parse_teacher_spec, teacher_fingerprint
from distill.stages.adapt import AdaptOptions, adapt
from tests.distill.small import ONE_THREAD, TINY
from transferset.errors import DataError, UsageError
from transferset.models.backbone import load_backbone


@pytest.fixture
def copy(teacher: Path, tmp_path: Path) -> Path:
    """A teacher that may be damaged."""
    shutil.copytree(teacher, tmp_path / "copy")
    return tmp_path / "copy"


def test_a_moved_teacher_is_the_same(teacher: Path, copy: Path) -> None:
    first, moved = (open_teacher(path, runtime="eager", batch_size=2, threads=1) for path in (teacher, copy))
    assert first.fingerprint == moved.fingerprint
    assert first.description == "timm:test_efficientnet@none at 48 px with a linear head for 3 classes"
    assert first.flops_per_image > 0
    batch = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), dtype=np.uint8)
    assert np.array_equal(first.logits(batch), moved.logits(batch))


def test_it_is_asked_for_logits_or_for_features(teacher: Path) -> None:
    opened = open_teacher(teacher, runtime="eager", batch_size=2, threads=1)
    batch = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), dtype=np.uint8)
    logits, features = opened.answers("logits"), opened.answers("features")
    assert logits.width == 3 and np.array_equal(logits.ask(batch), opened.logits(batch))
    assert features.width == opened.model.dimension and features.ask(batch).shape == (2, features.width)
    assert np.array_equal(opened.head.logits(features.ask(batch)), opened.logits(batch))
    both = opened.answers("logits and features")
    assert (both.width, both.halved) == (3 + features.width, features.width)
    assert both.flops_per_image == logits.flops_per_image
    assert np.array_equal(both.ask(batch)[:, :3], logits.ask(batch))


def test_features_beside_logits_have_unit_length(teacher: Path) -> None:
    """So that float16 holds their direction, whatever their size."""
    opened = open_teacher(teacher, runtime="eager", batch_size=2, threads=1)
    batch = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), dtype=np.uint8)
    found, features = opened.answers("logits and features").ask(batch)[:, 3:], opened.model(batch)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert found.dtype == np.float32 and np.allclose(found, unit, atol=1e-6)
    assert np.linalg.norm(found.astype(np.float16) - unit, axis=1).max() < 0.0005


def test_the_fingerprint_is_of_everything_that_answers() -> None:
    backbone = load_backbone(TINY, image_size=32)
    head = LinearHead(np.zeros((2, 256), np.float32), np.zeros(2, np.float32), 0.5)
    changes = [
        (backbone, head, ("a", "b")),
        (backbone, head, ("b", "a")),
        (backbone, head.at(0.25), ("a", "b")),
        (backbone, replace(head, bias=np.ones(2, np.float32)), ("a", "b")),
        (backbone, replace(head, weight=np.ones((2, 256), np.float32)), ("a", "b")),
        (load_backbone(TINY, image_size=64), head, ("a", "b")),
        (load_backbone(TINY, image_size=32, seed=1), head, ("a", "b")),
    ]
    assert len({teacher_fingerprint(*change) for change in changes}) == len(changes)
    assert teacher_fingerprint(*changes[0]) == teacher_fingerprint(backbone, head, ("a", "b"))


def test_weights_in_a_file_are_found_from_anywhere_and_proven(
    labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def weights(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return timm.create_model("test_efficientnet").state_dict()

    file = tmp_path / "there" / "weights.safetensors"
    file.parent.mkdir()
    save_file(weights(0), file)
    monkeypatch.chdir(file.parent)
    options = AdaptOptions(
        labelled, f"timm:test_efficientnet@{file.name}", tmp_path / "teacher", image_size=48, runtime="eager",
        execution=ONE_THREAD,
    )  # fmt: skip
    report = adapt(options)
    monkeypatch.chdir(tmp_path)
    assert open_teacher(options.out, runtime="eager", threads=1).fingerprint == report.fingerprint
    save_file(weights(1), file)
    with pytest.raises(DataError, match=r"not those that the teacher in .* was adapted with") as error:
        open_teacher(options.out, runtime="eager")
    assert "put the old weights back" in str(error.value.hint)
    file.unlink()
    with pytest.raises(DataError, match=r"weights\.safetensors"):
        open_teacher(options.out, runtime="eager")


def test_an_unfinished_teacher_is_told_from_none(copy: Path, tmp_path: Path) -> None:
    (copy / "report.json").unlink()
    with pytest.raises(DataError, match="not finished") as error:
        open_teacher(copy)
    assert "run distill adapt again" in str(error.value.hint)
    with pytest.raises(DataError, match="not a run of distill") as error:
        open_teacher(tmp_path / "nowhere")
    assert "distill adapt" in str(error.value.hint)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "command": "train"}))
    with pytest.raises(DataError, match="not a run of distill adapt"):
        open_teacher(copy)


def test_another_head_is_refused(copy: Path) -> None:
    head = read_head(copy / "head.safetensors")
    write_head(copy / "head.safetensors", head.at(head.temperature * 2))
    with pytest.raises(DataError, match=r"damaged: head, labels or preprocessing are not those"):
        open_teacher(copy, runtime="eager")


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("config.json", "[]", "config.json is damaged: it holds no JSON object"),
        ("config.json", '{"command": "adapt"}', "config.json is not that of a teacher"),
        (
            "config.json",
            '{"command": "adapt", "backbone": {"spec": "embedded", "weights_sha256": 1}}',
            "config.json is not that of a teacher",
        ),
        ("report.json", "[]", "report.json is damaged: it holds no JSON object"),
        ("report.json", "{}", "copy is damaged: head, labels or preprocessing are not those"),
        ("report.json", "{", "report.json is damaged: it is not JSON"),
        ("labels.json", "3", "labels.json is damaged: it is not a list of distinct class names"),
        ("labels.json", "[]", "labels.json is damaged: it is not a list of distinct class names"),
        ("labels.json", '["red", "red", "blue"]', "labels.json is damaged: it is not a list of distinct"),
        ("preprocessing.json", "[]", "preprocessing.json is damaged: it holds no JSON object"),
        (
            "preprocessing.json",
            '{"size": 48}',
            "preprocessing.json is damaged: preprocessing has missing or unknown keys: crop_pct, ",
        ),
        ("head.safetensors", "nothing", "head.safetensors is not the head of a teacher"),
    ],
)
def test_damage_is_a_clear_error(copy: Path, name: str, text: str, told: str) -> None:
    (copy / name).write_text(text)
    with pytest.raises(DataError, match=told):
        open_teacher(copy, runtime="eager")


def test_preprocessing_of_another_type_is_damage(copy: Path) -> None:
    found = json.loads((copy / "preprocessing.json").read_text())
    for change in ({"size": "large"}, {"mean": 0.5}, {"size": 0}):
        (copy / "preprocessing.json").write_text(json.dumps({**found, **change}))
        with pytest.raises(DataError, match=r"preprocessing\.json is damaged: "):
            open_teacher(copy, runtime="eager")


def test_a_runtime_that_does_not_exist(teacher: Path) -> None:
    with pytest.raises(UsageError, match="unknown --runtime 'fast'") as error:
        open_teacher(teacher, runtime="fast")
    with pytest.raises(UsageError, match="unknown --precision 'half'"):
        open_teacher(teacher, precision="half")
    assert "eager" in str(error.value.hint)


def test_a_teacher_is_adapted_from_a_model_not_from_a_teacher(teacher: Path) -> None:
    with pytest.raises(UsageError, match="is a directory; adapt takes the model"):
        parse_teacher_spec(str(teacher))
    with pytest.raises(UsageError, match="model spec 'resnet'"):
        parse_teacher_spec("resnet")
    assert str(parse_teacher_spec(TINY)) == TINY
