"""OpenVINO: a backbone converted, compiled for the CPU and checked against eager torch."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from transferset.models.backbone import Backbone

if TYPE_CHECKING:
    from torch import nn

    from transferset.models.runtime import RunBatch

MIN_COSINE = 0.999
_TEST_IMAGES = 8
_LEAVES = 120
_MESSAGE_CHARACTERS = 240


class ConversionError(Exception):
    """OpenVINO cannot convert the model, or its features are not the model's."""


def compile_graph(backbone: Backbone, batch_size: int, threads: int | None) -> tuple[RunBatch, str, str]:
    """Compile a backbone for a fixed batch of uint8 images.

    The precision is OpenVINO's own choice (bf16 where the CPU has it) if the features of a few test images
    keep a cosine of MIN_COSINE to those of eager torch, else f32.

    Returns:
        the function from (batch_size, size, size, 3) uint8 to (batch_size, dimension) float32, the precision
        and OpenVINO's version.

    Raises:
        ConversionError: the model cannot be converted, or does not agree with eager torch even in f32.
    """
    openvino = _import_openvino()
    from transferset.models.runtime import normalising

    module = normalising(backbone)
    graph = _convert(openvino, module, batch_size, backbone.preprocessing.size)
    images = _test_images(backbone.preprocessing.size)
    expected = _eager(module, images)
    worst = 0.0
    for precision in (None, "f32"):
        run, chosen = _compile(openvino, graph, precision, threads)
        worst = _worst_cosine(_in_batches(run, images, batch_size), expected)
        if worst >= MIN_COSINE:
            return run, chosen, openvino.__version__
    raise ConversionError(f"its features have a cosine of {worst:.4f} to those of eager torch")


def _import_openvino() -> Any:
    """OpenVINO without its telemetry, which would write to the user's home and call a server on every import.

    Python raises ImportError for a module that stands as None in `sys.modules`; OpenVINO then uses its stub.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _convert(openvino: Any, module: nn.Module, batch_size: int, size: int) -> Any:
    import torch
    from openvino import frontend

    failures = (
        RuntimeError,
        TypeError,
        ValueError,
        frontend.GeneralFailure,
        frontend.OpConversionFailure,
        frontend.NotImplementedFailure,
        frontend.InitializationFailure,
        frontend.OpValidationFailure,
    )
    example = torch.zeros((1, size, size, 3), dtype=torch.uint8)
    # Tracing needs ordinary tensors (no inference mode), and nn.MultiheadAttention without its fused kernel.
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # The tracer's own check runs the model twice more; the caller compares the features anyway.
            traced = torch.jit.trace(module, example, strict=False, check_trace=False)
            return openvino.convert_model(traced, example_input=example, input=[batch_size, size, size, 3])
    except failures as error:
        raise ConversionError(_one_line(error)) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def _compile(openvino: Any, graph: Any, precision: str | None, threads: int | None) -> tuple[RunBatch, str]:
    config: dict[str, Any] = {}
    if precision is not None:
        config["INFERENCE_PRECISION_HINT"] = precision
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    try:
        compiled = openvino.Core().compile_model(graph, "CPU", config)
    except RuntimeError as error:
        raise ConversionError(_one_line(error)) from error
    request = compiled.create_infer_request()
    names = {"float": "f32", "float32": "f32", "bfloat16": "bf16", "float16": "f16"}
    chosen = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()

    def run(images: np.ndarray) -> np.ndarray:
        return np.array(request.infer([images], share_inputs=True)[0], dtype=np.float32)

    return run, names.get(chosen, chosen)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:_MESSAGE_CHARACTERS] or type(error).__name__


def _test_images(size: int) -> np.ndarray:
    """(_TEST_IMAGES, size, size, 3) uint8, seeded.

    "Dead leaves", shaded discs over one another in sizes of a power law, have the statistics of photographs
    (A. Lee, D. Mumford, J. Huang, "Occlusion Models for Natural Images", IJCV 2001). They are harder on low
    precision than photographs, so the check errs on the safe side.
    """
    generator = np.random.default_rng(0)
    y, x = np.mgrid[0:size, 0:size] / size
    images = np.zeros((_TEST_IMAGES, size, size, 3), np.uint8)
    for image in images:
        canvas = np.zeros((size, size, 3))
        for _ in range(_LEAVES):
            radius = 0.02 / generator.uniform(0.02, 1)
            row, column = generator.uniform(-0.1, 1.1, 2)
            colour, slope = generator.uniform(0, 255, 3), generator.uniform(-60, 60, (2, 3))
            inside = (y - row) ** 2 + (x - column) ** 2 < radius**2
            offsets = np.stack([y[inside] - row, x[inside] - column], axis=1)
            canvas[inside] = colour + offsets @ slope
        noise = generator.normal(0, generator.uniform(0, 12), canvas.shape)
        image[:] = np.clip(canvas + noise, 0, 255).astype(np.uint8)
    return images


def _in_batches(run: RunBatch, images: np.ndarray, batch_size: int) -> np.ndarray:
    features = []
    for start in range(0, len(images), batch_size):
        some = images[start : start + batch_size]
        padded = np.zeros((batch_size, *images.shape[1:]), np.uint8)
        padded[: len(some)] = some
        features.append(run(padded)[: len(some)])
    return np.concatenate(features)


def _eager(module: nn.Module, images: np.ndarray) -> np.ndarray:
    import torch

    with torch.no_grad():
        features: np.ndarray = module(torch.from_numpy(images)).float().numpy()
    return features


def _worst_cosine(features: np.ndarray, expected: np.ndarray) -> float:
    norms = np.linalg.norm(features, axis=1) * np.linalg.norm(expected, axis=1)
    return float(np.min(np.sum(features * expected, axis=1) / np.maximum(norms, 1e-12)))
