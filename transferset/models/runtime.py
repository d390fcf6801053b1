"""What a frozen model runs on: eager torch, or OpenVINO on CPUs.

Every runtime takes uint8 images and normalises them inside its graph. A batch is always padded to one fixed
size, so that the features of an image do not depend on how many others came with it.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from transferset.errors import UsageError
from transferset.models.backbone import Backbone
from transferset.models.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import nn

RuntimeName = Literal["auto", "eager", "openvino"]
RUNTIMES: tuple[RuntimeName, ...] = ("auto", "eager", "openvino")

RunBatch = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class RuntimeInfo:
    """What was chosen, for plans and reports.

    Attributes:
        runtime: the engine.
        precision: of its arithmetic: `f32`, `bf16`, `f16`.
        version: of the engine's library.
        device: `cpu`, `cuda:0`, …
        note: why `auto` did not take a faster runtime; empty otherwise.
    """

    runtime: Literal["eager", "openvino"]
    precision: str
    version: str
    device: str
    note: str = ""


class FrozenModel:
    """A backbone that is ready to run: call it with images, get features. Threads take turns.

    Args:
        run: (batch_size, size, size, 3) uint8 to (batch_size, dimension) float32, both its own.
        backbone: what `run` computes.
        info: how it computes it.
        batch_size: rows of every call of `run`.
    """

    def __init__(self, run: RunBatch, backbone: Backbone, info: RuntimeInfo, batch_size: int) -> None:
        self.info = info
        self.batch_size = batch_size
        self.preprocessing: Preprocessing = backbone.preprocessing
        self.dimension = backbone.dimension
        size = self.preprocessing.size
        self._run = run
        self._lock = threading.Lock()
        self._padded = np.zeros((batch_size, size, size, 3), np.uint8)

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """Features of rendered images.

        Args:
            batch: (n, size, size, 3) uint8, n <= batch_size, as `Preprocessing.render` makes them.

        Returns:
            (n, dimension) float32, as the model gives them (not L2-normalised).

        Raises:
            ValueError: another shape or type.
        """
        count = len(batch)
        if batch.dtype != np.uint8 or batch.shape[1:] != self._padded.shape[1:] or count > self.batch_size:
            raise ValueError(
                f"expected uint8 of shape {self._padded.shape} or fewer rows, "
                f"got {batch.dtype} of shape {batch.shape}"
            )
        with self._lock:
            if count == self.batch_size:
                return self._run(np.ascontiguousarray(batch))
            self._padded[:count] = batch
            self._padded[count:] = 0
            return self._run(self._padded)[:count].copy()


def open_runtime(
    backbone: Backbone,
    *,
    runtime: RuntimeName = "auto",
    batch_size: int,
    device: str = "auto",
    threads: int | None = None,
) -> FrozenModel:
    """Put a backbone on a runtime.

    Args:
        backbone: the model; an eager runtime moves its module to the device.
        runtime: `auto` is OpenVINO on a CPU where it is installed and can convert the model, else eager.
        batch_size: images of one run; smaller batches are padded to it.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, … OpenVINO runs on the CPU only.
        threads: CPU threads; by default the engine's own choice. Eager torch has one number for the process.

    Raises:
        UsageError: an unknown or impossible combination; or `openvino` was asked for and is not installed or
            cannot convert the model.
    """
    if runtime not in RUNTIMES:
        raise UsageError(f"unknown runtime {runtime!r}", f"choose one of {', '.join(RUNTIMES)}")
    if batch_size < 1 or (threads is not None and threads < 1):
        raise UsageError(f"batch size {batch_size} and threads {threads} must be positive", None)
    where = resolve_device(device)
    if runtime == "openvino" and where != "cpu":
        raise UsageError(f"the openvino runtime cannot run on {where}", "use --runtime eager or --device cpu")
    if runtime == "eager" or where != "cpu":
        return _open_eager(backbone, batch_size, where, threads)
    if importlib.util.find_spec("openvino") is None:
        if runtime == "openvino":
            raise UsageError("the openvino runtime is not installed", "pip install 'transferset[openvino]'")
        return _open_eager(backbone, batch_size, where, threads, "openvino is not installed")
    from transferset.models.openvino_graph import ConversionError, compile_graph

    try:
        run, precision, version = compile_graph(backbone, batch_size, threads)
    except ConversionError as error:
        if runtime == "openvino":
            raise UsageError(
                f"openvino cannot run {backbone.spec}: {error}", "try --runtime eager"
            ) from error
        return _open_eager(backbone, batch_size, where, threads, f"openvino cannot run it: {error}")
    return FrozenModel(run, backbone, RuntimeInfo("openvino", precision, version, "cpu"), batch_size)


def resolve_device(device: str) -> str:
    """`auto` is the first GPU, else the CPU; a device that is not there is a UsageError."""
    import torch

    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        parsed = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"unknown device {device!r}", "use auto, cpu, cuda or cuda:1") from error
    if parsed.type == "cpu":
        return "cpu"
    if parsed.type != "cuda":
        raise UsageError(f"device {device!r} is not supported", "use auto, cpu, cuda or cuda:1")
    if not torch.cuda.is_available() or (parsed.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"there is no device {device!r} on this machine", "use --device cpu or auto")
    return f"cuda:{parsed.index or 0}"


def normalising(backbone: Backbone) -> nn.Module:
    """The module from (n, size, size, 3) uint8 to features: cast, normalise, run."""
    import torch

    class Normalised(torch.nn.Module):
        scale: torch.Tensor
        shift: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            mean = torch.tensor(backbone.preprocessing.mean).reshape(1, 3, 1, 1)
            std = torch.tensor(backbone.preprocessing.std).reshape(1, 3, 1, 1)
            self.register_buffer("scale", 1 / (255 * std))
            self.register_buffer("shift", mean / std)
            self.inner = backbone.module

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            pixels = images.permute(0, 3, 1, 2).to(self.scale.dtype)
            features: torch.Tensor = self.inner(pixels * self.scale - self.shift)
            return features

    return Normalised().eval()


def _open_eager(
    backbone: Backbone, batch_size: int, device: str, threads: int | None, note: str = ""
) -> FrozenModel:
    import torch

    from transferset.models.allocator import keep_freed_memory

    if device == "cpu":
        keep_freed_memory()
        if threads is not None:
            torch.set_num_threads(threads)
    module = normalising(backbone).to(device=device).to(memory_format=torch.channels_last)

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            features = module(torch.from_numpy(images).to(device)).float().cpu()
        return np.ascontiguousarray(features.numpy())

    info = RuntimeInfo("eager", "f32", torch.__version__, device, note)
    return FrozenModel(run, backbone, info, batch_size)
