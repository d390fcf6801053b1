from pathlib import Path

import numpy as np
import pytest
import torch

from distill.loop.checkpoints import write_tensors
from distill.models.student import build_student, open_student
from distill.stages.result import write_student_facts
from tests.distill.small import TINY
from transferset.errors import DataError, UsageError
from transferset.writes import write_json

CLASSES = ("cat", "dog", "tree")


def test_the_start_is_a_function_of_the_seed() -> None:
    torch.manual_seed(1)
    first, same, other = (build_student(TINY, CLASSES, 32, seed) for seed in (0, 0, 1))
    weights = [list(student.module.state_dict().values()) for student in (first, same, other)]
    assert all(torch.equal(a, b) for a, b in zip(weights[0], weights[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights[0], weights[2], strict=True))
    assert all(parameter.requires_grad for parameter in first.module.parameters())
    assert first.preprocessing.size == 32 and first.logits(np.zeros((2, 32, 32, 3), np.uint8)).shape == (2, 3)


def test_inputs_are_normalised() -> None:
    student = build_student(TINY, CLASSES, 32, 0)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    mean, std = np.array(student.preprocessing.mean), np.array(student.preprocessing.std)
    expected = ((images / 255 - mean) / std).transpose(0, 3, 1, 2)
    inputs = student.inputs(images)
    assert np.allclose(inputs.numpy(), expected, atol=1e-5)
    assert inputs.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("spec", [TINY, "timm:test_vit@none"])
def test_a_finished_student_opens_as_it_was(tmp_path: Path, spec: str) -> None:
    student = build_student(spec, CLASSES, 48, 0)
    write_student_facts(tmp_path, student)
    write_json(tmp_path / "config.json", {"student": {"spec": student.spec}})
    with pytest.raises(DataError, match="no finished student"):
        open_student(tmp_path)
    write_tensors(tmp_path / "model.safetensors", student.module.state_dict())
    opened = open_student(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (5, 48, 48, 3), dtype=np.uint8)
    assert opened.classes == CLASSES and opened.preprocessing == student.preprocessing
    assert np.array_equal(opened.logits(images), student.logits(images))
    write_tensors(tmp_path / "model.safetensors", {"head": torch.zeros(1)})
    with pytest.raises(DataError, match="does not hold"):
        open_student(tmp_path)


def test_weights_of_another_student_are_a_start(tmp_path: Path) -> None:
    first = build_student(TINY, CLASSES, 32, 3)
    write_tensors(tmp_path / "w.safetensors", first.module.state_dict())
    second = build_student(f"timm:test_efficientnet@{tmp_path / 'w.safetensors'}", ("a", "b"), 32, 0)
    assert torch.equal(second.module.conv_stem.weight, first.module.conv_stem.weight)
    assert second.module.get_classifier().out_features == 2


def test_an_embedded_student_has_its_weights() -> None:
    student = build_student("embedded", CLASSES, 64, 0)
    assert student.module.get_classifier().out_features == 3 and student.spec == "embedded"


@pytest.mark.parametrize("spec", ["open_clip:ViT-B-32/none", "timm:no_such_model@none", "mobilenet"])
def test_what_is_no_student(spec: str) -> None:
    with pytest.raises(UsageError):
        build_student(spec, CLASSES, None, 0)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.json", "[]"),
        ("config.json", "{}"),
        ("config.json", '{"student": 3}'),
        ("config.json", '{"student": {"spec": "resnet"}}'),
        ("config.json", '{"student": {"spec": "timm:no_such_model@none"}}'),
        ("labels.json", "{}"),
        ("labels.json", '["cat", "cat", "dog"]'),
        ("labels.json", '["cat", "dog"]'),
        ("preprocessing.json", '"large"'),
        ("preprocessing.json", "{}"),
        ("model.safetensors", "nothing"),
    ],
)
def test_damage_is_a_clear_error(tmp_path: Path, name: str, text: str) -> None:
    student = build_student(TINY, CLASSES, 32, 0)
    write_student_facts(tmp_path, student)
    write_json(tmp_path / "config.json", {"student": {"spec": student.spec}})
    write_tensors(tmp_path / "model.safetensors", student.module.state_dict())
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError):
        open_student(tmp_path)
