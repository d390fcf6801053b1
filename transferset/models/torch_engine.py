"""Eager torch and torch.compile."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from transferset.models.agreement import MIN_COSINE, compare, reference, sample_images
from transferset.models.backbone import Backbone
from transferset.models.engine import CannotRun, Opened, RunBatch, Setup, normalising

if TYPE_CHECKING:
    from torch import nn

_MESSAGE_CHARACTERS = 240


def open_eager(backbone: Backbone, setup: Setup) -> Opened:
    """Torch as it is; raises CannotRun for a precision that the device lacks."""
    return _open(backbone, setup, compiled=False)


def open_compiled(backbone: Backbone, setup: Setup) -> Opened:
    """`torch.compile` for one batch size: takes up to a minute the first time, then torch's cache helps.

    Raises CannotRun where there is no C++ compiler for a CPU, or the model can't be compiled.
    """
    compiler = os.environ.get("CXX") or "g++"
    if setup.device == "cpu" and shutil.which(compiler) is None:
        raise CannotRun(
            f"torch.compile needs a C++ compiler, and there is no {compiler}",
            "install g++, or name a compiler by the environment variable CXX",
        )
    return _open(backbone, setup, compiled=True)


def _open(backbone: Backbone, setup: Setup, compiled: bool) -> Opened:
    import torch

    from transferset.models.allocator import keep_freed_memory

    if setup.device == "cpu":
        keep_freed_memory()
        if setup.threads is not None:
            torch.set_num_threads(setup.threads)
    module = normalising(backbone).to(device=setup.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    wanted = ["f32"] if setup.device == "cpu" else ["f16", "f32"]
    expected: np.ndarray | None = None
    for precision in [setup.precision] if setup.precision is not None else wanted:
        run = _runner(module, setup.device, precision, compiled)
        if precision == "f32" and not compiled:
            return Opened(run, precision, torch.__version__)
        size = backbone.preprocessing.size
        if expected is None:
            expected = reference(module, sample_images(size), setup.device)
        cosine = _compared(run, setup.batch_size, expected, size)
        if cosine >= MIN_COSINE or setup.precision is not None:
            return Opened(run, precision, torch.__version__, cosine)
    raise CannotRun(f"its features have a cosine of {cosine:.4f} to those of eager torch")


def _compared(run: RunBatch, batch_size: int, expected: np.ndarray, size: int) -> float:
    """The first run is where a model is compiled, and where a device turns out to lack a precision."""
    import torch

    try:
        return compare(run, batch_size, expected, size)[0]
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, NotImplementedError, ImportError, OSError) as error:
        message = " ".join(str(error).split())[:_MESSAGE_CHARACTERS]
        raise CannotRun(f"torch: {message or type(error).__name__}") from error


def _runner(module: nn.Module, device: str, precision: str, compiled: bool) -> RunBatch:
    import torch

    kinds = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
    kind = kinds[precision]
    forward: Any = module
    if compiled:
        # Frozen weights are folded into the graph: that is what makes convolutions faster on a CPU.
        forward = torch.compile(module, dynamic=False, options={"freezing": True})

    def run(images: np.ndarray) -> np.ndarray:
        with torch.no_grad(), torch.autocast(device.split(":")[0], dtype=kind, enabled=precision != "f32"):
            features = forward(torch.from_numpy(images).to(device)).float().cpu()
        return np.ascontiguousarray(features.numpy())

    return run
