"""ONNX graphs of students: written by torch, run by ONNX Runtime."""

import importlib.util
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.models.attention import without_fast_path
from transferset.errors import DataError, UsageError
from transferset.models.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import nn

    from distill.models.student import Student

INPUT, OUTPUT = "images", "logits"
OPSET = 17
UINT8_LAYOUT = "uint8 (n, size, size, 3) RGB; normalised inside"
FLOAT_LAYOUT = "float32 (n, 3, size, size) RGB; (pixel / 255 - mean) / std before"


def require_extra(option: str) -> None:
    """Raise UsageError where what the extra `export` installs is missing."""
    missing = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"{option} needs {' and '.join(missing)}", hint="pip install 'transferset[export]'")


def write_onnx(student: "Student", path: Path, with_preprocessing: bool, opset: int = OPSET) -> None:
    """Write the student as an ONNX graph from `images` (any number, see the two layouts above) to `logits`
    (n, C) float32. Classes and preprocessing stand in its metadata as JSON.

    Raises UsageError where the architecture has an operation that ONNX lacks.
    """
    import onnx
    import torch

    size = student.preprocessing.size
    module = _normalising(student) if with_preprocessing else student.module.eval()
    shape = (2, size, size, 3) if with_preprocessing else (2, 3, size, size)
    example = torch.zeros(shape, dtype=torch.uint8 if with_preprocessing else torch.float32)
    try:
        with torch.no_grad(), without_fast_path(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # The exporter that traces: it takes a second where torch.export takes twenty, needs no further
            # package, and writes no source paths into the graph.
            torch.onnx.export(
                module,
                (example,),
                path,
                dynamo=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes={INPUT: {0: "n"}, OUTPUT: {0: "n"}},
                opset_version=opset,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"{student.spec} cannot be written as ONNX: {reason}", hint="export it without --onnx"
        ) from error
    graph = onnx.load(path)
    facts = {"classes": list(student.classes), "preprocessing": student.preprocessing.to_dict()}
    facts["input"] = UINT8_LAYOUT if with_preprocessing else FLOAT_LAYOUT
    onnx.helper.set_model_props(graph, {name: json.dumps(value) for name, value in facts.items()})
    onnx.save(graph, path)


def _normalising(student: "Student") -> "nn.Module":
    """The module from uint8 (n, size, size, 3) to logits. Subtraction and division, which quantisation leaves
    alone."""
    import torch

    class Normalised(torch.nn.Module):
        mean: torch.Tensor
        std: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            for name in ("mean", "std"):
                values = torch.tensor(getattr(student.preprocessing, name)) * 255.0
                self.register_buffer(name, values.view(1, 3, 1, 1))
            self.inner = student.module

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            pixels = images.permute(0, 3, 1, 2).float()
            logits: torch.Tensor = self.inner((pixels - self.mean) / self.std)
            return logits

    return Normalised().eval()


@dataclass(frozen=True, eq=False)
class Graph:
    """`logits(images)`: rendered images (n, size, size, 3) uint8 to logits (n, C) float32, on the CPU;
    `whole`: it takes n images as they were decoded, each of its own size, instead."""

    logits: Callable[[np.ndarray], np.ndarray]
    whole: bool


def open_graph(path: Path, preprocessing: Preprocessing, threads: int | None) -> Graph:
    """A graph that `write_onnx` wrote.

    Raises UsageError without ONNX Runtime, DataError for a file that it cannot run.
    """
    require_extra(f"--model {path}")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    # Threads that wait actively starve everything else on the cores, such as the decoding of images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except _runtime_errors() as error:
        raise DataError(f"{path} cannot be run: {error}", hint="export it again") from error
    given = session.get_inputs()[0]
    takes_uint8, whole = given.type == "tensor(uint8)", not isinstance(given.shape[1], int)

    def run(images: np.ndarray) -> np.ndarray:
        return np.asarray(session.run([OUTPUT], {INPUT: images})[0], dtype=np.float32)

    def logits(images: np.ndarray) -> np.ndarray:
        if whole:
            return np.concatenate([run(image[None]) for image in images])
        return run(images if takes_uint8 else normalised(images, preprocessing))

    return Graph(logits, whole)


def _runtime_errors() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names: Any = (
        "Fail",
        "InvalidGraph",
        "InvalidProtobuf",
        "NoSuchFile",
        "NotImplemented",
        "InvalidArgument",
    )
    return (RuntimeError, *(getattr(state, name) for name in names))


def normalised(images: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """uint8 (n, size, size, 3) to float32 (n, 3, size, size), as a graph without preprocessing takes it."""
    mean, std = (np.array(values, np.float32) * 255 for values in (preprocessing.mean, preprocessing.std))
    return np.ascontiguousarray(((images - mean) / std).transpose(0, 3, 1, 2))
