"""Runtimes: the same vectors on each, rows that do not depend on their batch, errors."""

import importlib.util
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from transferset.errors import UsageError
from transferset.models.backbone import Backbone, load_backbone
from transferset.models.engine import Opened
from transferset.models.preprocessing import Preprocessing
from transferset.models.runtime import (
    FrozenModel,
    RuntimeName,
    images_per_second,
    open_runtime,
    resolve_device,
)
from transferset.models.spec import ModelSpec

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino (extra `openvino`) is not installed"
)
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
BATCH = 8
HALVES = (0.5, 0.5, 0.5)


def _images(backbone: Backbone, photographs: list[np.ndarray]) -> np.ndarray:
    return np.stack([backbone.preprocessing.render(rgb) for rgb in photographs])


def _worst_cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.min(np.sum(a * b, axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)))


def _backbone(module: nn.Module, size: int = 16, dimension: int = 3) -> Backbone:
    preprocessing = Preprocessing(size, "squash", 1.0, "bilinear", (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    return Backbone(module.eval(), preprocessing, dimension, ModelSpec("timm", "toy", "none"), "0")


class ChannelMeans(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3))


@needs_openvino
@pytest.mark.parametrize(
    ("spec", "size"),
    [
        ("embedded", 96),
        ("timm:test_vit@none", None),
        ("timm:test_efficientnet@none", 96),
        ("small_clip", None),
    ],
)
def test_openvino_agrees_with_eager(
    spec: str, size: int | None, small_clip: Path, photographs: list[np.ndarray]
) -> None:
    _assert_agreement(spec.replace("small_clip", f"open_clip:local-dir:{small_clip}"), size, photographs)


@needs_openvino
def test_openvino_agrees_with_eager_for_a_real_clip(tinyclip: Path, photographs: list[np.ndarray]) -> None:
    _assert_agreement(f"open_clip:local-dir:{tinyclip}", None, photographs)


@needs_compiler
@pytest.mark.parametrize(
    ("spec", "size"), [("small_clip", None), pytest.param("embedded", 64, marks=pytest.mark.slow)]
)
def test_compiled_torch_agrees_with_eager(
    spec: str, size: int | None, small_clip: Path, photographs: list[np.ndarray]
) -> None:
    spec = spec.replace("small_clip", f"open_clip:local-dir:{small_clip}")
    _assert_agreement(spec, size, photographs, "compile")


def _assert_agreement(
    spec: str, size: int | None, photographs: list[np.ndarray], runtime: RuntimeName = "openvino"
) -> None:
    backbone = load_backbone(spec, image_size=size)
    images = _images(backbone, photographs)
    fast = open_runtime(backbone, runtime=runtime, batch_size=BATCH, device="cpu", threads=1)
    assert fast.info.runtime == runtime
    assert fast.info.precision in ("f32", "bf16", "f16")
    assert fast.info.version
    features = fast(images)
    assert np.array_equal(fast(images[:2]), features[:2])
    eager = open_runtime(backbone, runtime="eager", batch_size=BATCH, device="cpu")
    assert eager.info.runtime == "eager"
    assert _worst_cosine(features, eager(images)) >= 0.999


@needs_openvino
def test_openvino_keeps_to_full_precision_where_a_model_needs_it(photographs: list[np.ndarray]) -> None:
    """Small differences of large activations: what bf16 cannot hold."""

    class Sensitive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 16, 3, stride=2)
            self.project = nn.Linear(16, 8)
            nn.init.constant_(self.conv.bias, 300.0)  # type: ignore[arg-type]

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            activations = self.conv(images)
            features: torch.Tensor = self.project((activations - 300).mean((2, 3)))
            return features

    torch.manual_seed(0)
    backbone = _backbone(Sensitive(), size=32, dimension=8)
    model = open_runtime(backbone, runtime="openvino", batch_size=BATCH, device="cpu")
    eager = open_runtime(backbone, runtime="eager", batch_size=BATCH, device="cpu")
    images = _images(backbone, photographs)
    assert _worst_cosine(model(images), eager(images)) >= 0.999


@pytest.mark.parametrize("runtime", ["eager", pytest.param("openvino", marks=needs_openvino)])
def test_pixels_are_normalised_in_the_graph(runtime: Any) -> None:
    model = open_runtime(_backbone(ChannelMeans()), runtime=runtime, batch_size=4, device="cpu")
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    expected = (images.mean((1, 2)) / 255 - np.array([0.1, 0.2, 0.3])) / np.array([0.5, 0.6, 0.7])
    assert np.allclose(model(images), expected, atol=1e-2 if runtime == "openvino" else 1e-5)


@pytest.mark.parametrize("count", [0, 1, 3, 4])
def test_the_model_always_runs_on_a_full_batch(count: int) -> None:
    seen = []

    def run(images: np.ndarray) -> np.ndarray:
        seen.append(images.shape)
        return images.mean((1, 2)).astype(np.float32)

    backbone = _backbone(ChannelMeans())
    info = open_runtime(backbone, runtime="eager", batch_size=4, device="cpu").info
    model = FrozenModel(run, backbone, info, batch_size=4)
    images = np.full((count, 16, 16, 3), 9, np.uint8)
    assert np.array_equal(model(images), np.full((count, 3), 9, np.float32))
    assert seen == [(4, 16, 16, 3)]


def test_results_are_the_callers_own() -> None:
    model = open_runtime(_backbone(ChannelMeans()), runtime="eager", batch_size=4, device="cpu")
    first = model(np.zeros((2, 16, 16, 3), np.uint8))
    kept = first.copy()
    model(np.full((4, 16, 16, 3), 255, np.uint8))
    assert np.array_equal(first, kept)


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((5, 16, 16, 3), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.zeros((1, 16, 16, 3), np.float32),
    ],
)
def test_another_shape_or_type_is_a_value_error(batch: np.ndarray) -> None:
    model = open_runtime(_backbone(ChannelMeans()), runtime="eager", batch_size=4, device="cpu")
    with pytest.raises(ValueError, match="expected uint8"):
        model(batch)


class Untraceable(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if torch.jit.is_tracing():
            raise RuntimeError("this model cannot be traced")
        return images.mean((2, 3))


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")


@needs_openvino
@pytest.mark.usefixtures("no_compiler")
def test_what_openvino_cannot_convert_runs_otherwise_and_says_so() -> None:
    model = open_runtime(_backbone(Untraceable()), runtime="auto", batch_size=2, device="cpu")
    assert model.info.runtime == "eager"
    assert "cannot be traced" in model.info.note
    with pytest.raises(UsageError, match="openvino cannot run timm:toy@none") as error:
        open_runtime(_backbone(Untraceable()), runtime="openvino", batch_size=2, device="cpu")
    assert "eager" in (error.value.hint or "")


@pytest.fixture
def no_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else find(name))


@pytest.mark.usefixtures("no_openvino", "no_compiler")
def test_without_openvino_and_compiler_auto_is_eager() -> None:
    model = open_runtime(_backbone(ChannelMeans()), runtime="auto", batch_size=2, device="cpu")
    assert model.info.runtime == "eager"
    assert model.info.note.startswith("openvino: openvino is not installed; compile: torch.compile needs")
    for runtime, hint in (("openvino", "transferset[openvino]"), ("compile", "CXX")):
        with pytest.raises(UsageError, match=f"the runtime {runtime} cannot run") as error:
            open_runtime(_backbone(ChannelMeans()), runtime=runtime, batch_size=2, device="cpu")  # type: ignore[arg-type]
        assert hint in (error.value.hint or "")


@needs_compiler
@pytest.mark.usefixtures("no_openvino")
def test_without_openvino_auto_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transferset.models.runtime.images_per_second", lambda *_: 100.0)
    model = open_runtime(_backbone(ChannelMeans()), runtime="auto", batch_size=2, device="cpu", threads=1)
    assert (model.info.runtime, model.info.precision) == ("compile", "f32")


@needs_openvino
@pytest.mark.parametrize(("times", "runtime"), [(1.29, "openvino"), (1.31, "eager")])
def test_auto_moves_down_only_for_what_is_clearly_faster(
    times: float, runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = iter([100 * times, 100.0] * 2)  # eager first
    monkeypatch.setattr("transferset.models.runtime.images_per_second", lambda *_: next(rates))
    model = open_runtime(_backbone(ChannelMeans()), runtime="auto", batch_size=2, device="cpu")
    assert model.info.runtime == runtime
    assert ("as fast as openvino" in model.info.note) == (runtime == "eager")


def test_the_probe_tells_images_a_second() -> None:
    def run(images: np.ndarray) -> np.ndarray:
        time.sleep(0.02)
        return images.mean((1, 2))

    rate = images_per_second(Opened(run, "f32", ""), 4, 16)
    assert 20 < rate <= 200


@pytest.mark.parametrize("runtime", ["eager", pytest.param("openvino", marks=needs_openvino)])
def test_precision_as_asked_for(runtime: Any, photographs: list[np.ndarray]) -> None:
    backbone = load_backbone("embedded", image_size=64)
    images = _images(backbone, photographs)
    full = open_runtime(backbone, runtime=runtime, precision="fp32", batch_size=BATCH, device="cpu")
    assert full.info.precision == "f32" and full.info.note == ""
    try:
        half = open_runtime(backbone, runtime=runtime, precision="bf16", batch_size=BATCH, device="cpu")
    except UsageError as error:
        assert "no bf16 on this CPU" in error.message
        return
    assert half.info.precision == "bf16"
    cosine = _worst_cosine(half(images), full(images))
    assert 0.98 < cosine < 0.999999, "another precision, and nearly the same features"
    assert "in bf16 features have a cosine of down to 0.9" in half.info.note, "this model loses that much"


@pytest.mark.parametrize(
    "options",
    [
        {"runtime": "abacus", "batch_size": 2},
        {"batch_size": 2, "precision": "fp12"},
        {"batch_size": 0},
        {"batch_size": 2, "threads": 0},
        {"batch_size": 2, "device": "abacus"},
        {"batch_size": 2, "device": "cuda:99"},
        {"batch_size": 2, "device": "mps"},
    ],
)
def test_impossible_options_are_usage_errors(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        open_runtime(_backbone(ChannelMeans()), **options)


def test_devices() -> None:
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") == ("cuda:0" if torch.cuda.is_available() else "cpu")


@needs_openvino
def test_openvino_sends_no_telemetry() -> None:
    open_runtime(_backbone(ChannelMeans()), runtime="openvino", batch_size=1, device="cpu")
    assert sys.modules["openvino_telemetry"] is None


def test_signals_are_handled_after_a_model_was_let_go_of_by_another_thread(run_python: Any) -> None:
    pytest.importorskip("openvino")
    done = run_python("""
import gc, os, signal, threading
from transferset.models.backbone import load_backbone
from transferset.models.runtime import open_runtime

models = [open_runtime(load_backbone("timm:test_efficientnet@none"), runtime="openvino", batch_size=2)]

def let_go():
    models.clear()
    gc.collect()

thread = threading.Thread(target=let_go)
thread.start()
thread.join()
signal.signal(signal.SIGTERM, lambda *_: print("asked to stop"))
os.kill(os.getpid(), signal.SIGTERM)
""")
    assert (done.returncode, done.stdout) == (0, "asked to stop\n"), done.stderr
