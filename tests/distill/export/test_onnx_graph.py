from pathlib import Path

import numpy as np
import pytest

from distill.models.student import Student, build_student
from transferset.errors import DataError, UsageError
from transferset.models.preprocessing import Preprocessing

pytest.importorskip("onnx", reason="the extra `export` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")

from distill.export import onnx_graph
from distill.export.int8 import quantise
from distill.export.onnx_graph import normalised, open_graph, require_extra, write_onnx

CLASSES = ("cat", "dog", "tree")
SIZE = 32


@pytest.fixture(scope="module")
def student() -> Student:
    """Random weights, logits of a size that shows differences."""
    import torch

    built = build_student("timm:test_efficientnet@none", CLASSES, SIZE, 0)
    with torch.no_grad():
        built.module.get_classifier().weight.mul_(1e3)
    built.module.eval()
    return built


def _images(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.mark.parametrize("with_preprocessing", [False, True])
def test_a_graph_answers_as_the_student_for_any_number_of_images(
    student: Student, tmp_path: Path, with_preprocessing: bool
) -> None:
    write_onnx(student, tmp_path / "model.onnx", with_preprocessing)
    logits = open_graph(tmp_path / "model.onnx", student.preprocessing, threads=1).logits
    for count in (1, 3, 7):
        expected = student.logits(_images(count))
        assert np.abs(expected).max() > 0.1
        assert np.allclose(logits(_images(count)), expected, atol=1e-4)


def test_a_graph_says_what_it_takes_and_where_its_source_was_not(student: Student, tmp_path: Path) -> None:
    import json

    import onnx

    write_onnx(student, tmp_path / "model.onnx", with_preprocessing=True)
    graph = onnx.load(tmp_path / "model.onnx")
    facts = {entry.key: json.loads(entry.value) for entry in graph.metadata_props}
    assert facts["classes"] == list(CLASSES)
    assert Preprocessing.from_dict(facts["preprocessing"]) == student.preprocessing
    assert facts["input"] == onnx_graph.UINT8_LAYOUT
    assert b"site-packages" not in (tmp_path / "model.onnx").read_bytes()


def test_normalised_is_what_the_student_computes(student: Student) -> None:
    assert np.allclose(
        normalised(_images(2), student.preprocessing), student.inputs(_images(2)).numpy(), atol=1e-5
    )


@pytest.mark.parametrize("with_preprocessing", [False, True])
def test_an_eight_bit_graph_is_smaller_and_near(
    student: Student, tmp_path: Path, with_preprocessing: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    write_onnx(student, tmp_path / "model.onnx", with_preprocessing)
    target = tmp_path / "model.int8.onnx"
    used = quantise(tmp_path / "model.onnx", target, _images(19), student.preprocessing, with_preprocessing)
    assert used == 16 and capsys.readouterr().out == ""
    assert target.stat().st_size < (tmp_path / "model.onnx").stat().st_size
    expected = student.logits(_images(19))
    found = open_graph(target, student.preprocessing, threads=1).logits(_images(19))
    assert np.abs(found - expected).max() > 0
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.95
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.int8.onnx", "model.onnx"]


def test_a_transformer_answers_as_the_student(tmp_path: Path) -> None:
    vit = build_student("timm:test_vit@none", CLASSES, SIZE, 0)
    write_onnx(vit, tmp_path / "model.onnx", with_preprocessing=False)
    logits = open_graph(tmp_path / "model.onnx", vit.preprocessing, threads=1).logits
    for count in (1, 3):
        assert np.allclose(logits(_images(count)), vit.logits(_images(count)), atol=1e-4)


def test_what_has_no_onnx_form_is_said(student: Student, tmp_path: Path) -> None:
    import torch

    class Bessel(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(images.mean(dim=(2, 3)))

    odd = Student(Bessel(), student.preprocessing, CLASSES, "timm:odd@none")
    with pytest.raises(UsageError, match="timm:odd@none cannot be written as ONNX"):
        write_onnx(odd, tmp_path / "model.onnx", with_preprocessing=False)


def test_a_damaged_graph_is_said(student: Student, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(DataError, match="cannot be run"):
        open_graph(tmp_path / "model.onnx", student.preprocessing, threads=1)


def test_without_the_extra_its_name_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="onnx and onnxruntime") as caught:
        require_extra("--onnx")
    assert caught.value.hint == "pip install 'transferset[export]'"
