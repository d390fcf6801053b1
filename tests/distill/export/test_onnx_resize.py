"""A graph that resizes and crops gives what `Preprocessing.render` gives."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distill.models.student import build_student
from transferset.errors import UsageError
from transferset.models.preprocessing import Preprocessing

pytest.importorskip("onnx", reason="the extra `export` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")

import onnx
import onnxruntime

from distill.export.int8 import quantise
from distill.export.onnx_graph import open_graph, write_onnx
from distill.export.onnx_resize import (
    OPSET,
    WHOLE_LAYOUT,
    check_resizable,
    put_before,
    rendered_by_pillow,
    resizing,
)

Picture = Callable[..., np.ndarray]
SHAPES = (
    (40, 57),
    (57, 40),
    (64, 64),
    (300, 201),
    (17, 23),
    (33, 260),
    (260, 33),
    (1, 5),
    (32, 32),
    (37, 36),
)


def _preprocessing(resize: str, crop_pct: float, interpolation: str, size: int = 32) -> Preprocessing:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return Preprocessing(size, resize, crop_pct, interpolation, mean, std)  # type: ignore[arg-type]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("resize", "crop_pct"), [("shortest", 0.875), ("shortest", 1.0), ("squash", 0.9)])
def test_pixels_are_those_of_render(
    picture: Picture, resize: str, crop_pct: float, interpolation: str
) -> None:
    preprocessing = _preprocessing(resize, crop_pct, interpolation)
    model = resizing(preprocessing)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for number, (height, width) in enumerate(SHAPES):
        image = picture(width, height, number)
        assert image.shape == (height, width, 3)
        (found,) = session.run(None, {"images": image[None]})[0]
        for expected in (preprocessing.render(image), rendered_by_pillow(preprocessing, image)):
            assert found.shape == expected.shape and found.dtype == np.uint8
            difference = np.abs(found.astype(int) - expected)
            assert difference.max() <= 2 and difference.mean() < 0.12, (height, width)


def test_the_crop_is_where_it_is_to_the_pixel() -> None:
    """What is left over is even and odd, by rows and by columns."""
    preprocessing = _preprocessing("shortest", 1.0, "bilinear", size=12)
    session = onnxruntime.InferenceSession(
        resizing(preprocessing).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for longer in range(12, 17):
        for shape in ((12, longer), (longer, 12)):
            image = np.random.default_rng(longer).integers(0, 256, (*shape, 3), dtype=np.uint8)
            assert np.array_equal(
                session.run(None, {"images": image[None]})[0][0], preprocessing.render(image)
            )


@pytest.mark.parametrize("interpolation", ["nearest", "lanczos"])
def test_what_onnx_cannot_do_is_said(interpolation: str) -> None:
    with pytest.raises(UsageError, match=f"resized by {interpolation}") as caught:
        check_resizable(_preprocessing("shortest", 1.0, interpolation))
    assert "--preprocessing normalise" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["timm:test_efficientnet@none", "timm:test_vit@none"])
def test_the_graph_answers_as_the_student_on_images_of_any_size(
    name: str, picture: Picture, tmp_path: Path
) -> None:
    student, path = build_student(name, ("cat", "dog", "tree"), 32, 0), tmp_path / "model.onnx"
    student.module.eval()
    write_onnx(student, path, True, OPSET)
    put_before(path, student.preprocessing)
    onnx.checker.check_model(path)
    facts = {entry.key: json.loads(entry.value) for entry in onnx.load(path).metadata_props}
    assert facts["input"] == WHOLE_LAYOUT
    graph = open_graph(path, student.preprocessing, threads=1)
    images = np.empty(len(SHAPES), object)
    for number, (height, width) in enumerate(SHAPES):
        images[number] = picture(width, height, number)
    expected = student.logits(np.stack([student.preprocessing.render(image) for image in images]))
    found = graph.logits(images)
    assert graph.whole and found.shape == expected.shape
    assert np.abs(found - expected).max() < 0.02 * max(1.0, np.abs(expected).max())


def test_eight_bits_resize_too(picture: Picture, tmp_path: Path) -> None:
    import torch

    student = build_student("timm:test_efficientnet@none", ("cat", "dog", "tree"), 32, 0)
    with torch.no_grad():
        student.module.get_classifier().weight.mul_(1e3)  # type: ignore[operator, union-attr]
    student.module.eval()
    given = [picture(40 + number, 36, number) for number in range(16)]
    rendered = np.stack([student.preprocessing.render(image) for image in given])
    source, target = tmp_path / "model.onnx", tmp_path / "model.int8.onnx"
    write_onnx(student, source, True, OPSET)
    quantise(source, target, rendered, student.preprocessing, True)
    before = open_graph(target, student.preprocessing, threads=1).logits(rendered)
    put_before(target, student.preprocessing)
    images = np.empty(len(given), object)
    images[:] = given
    found = open_graph(target, student.preprocessing, threads=1).logits(images)
    assert np.corrcoef(found.ravel(), before.ravel())[0, 1] > 0.99
    assert target.stat().st_size < source.stat().st_size
