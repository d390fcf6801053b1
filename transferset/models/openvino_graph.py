"""OpenVINO: a backbone converted, compiled for the CPU and checked against eager torch."""

from __future__ import annotations

import functools
import importlib.util
import sys
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from transferset.models.agreement import MIN_COSINE, compare, reference, sample_images
from transferset.models.backbone import Backbone
from transferset.models.engine import CannotRun, Opened, RunBatch, Setup, normalising

if TYPE_CHECKING:
    from torch import nn

_MESSAGE_CHARACTERS = 240


def open_openvino(backbone: Backbone, setup: Setup) -> Opened:
    """Compile a backbone for a fixed batch of uint8 images.

    Without a precision in `setup` it is OpenVINO's own choice (bf16 where the CPU has it) if the features of
    a few test images keep a cosine of MIN_COSINE to those of eager torch, else f32.

    Raises:
        CannotRun: OpenVINO is not installed, or runs on the CPU only; the model cannot be converted, does not
            agree with eager torch even in f32, or this CPU lacks the precision that is asked for.
    """
    if setup.device != "cpu":
        raise CannotRun(f"it cannot run on {setup.device}", "use --runtime eager or --device cpu")
    if importlib.util.find_spec("openvino") is None:
        raise CannotRun("openvino is not installed", "pip install 'transferset[openvino]'")
    openvino = _import_openvino()
    module = normalising(backbone)
    size = backbone.preprocessing.size
    graph = _convert(openvino, module, setup.batch_size, size)
    expected = reference(module, sample_images(size))
    cosine = 0.0
    for precision in (None, "f32") if setup.precision is None else (setup.precision,):
        run, chosen = _compile(graph, precision, setup.threads)
        if setup.precision not in (None, chosen):
            raise CannotRun(f"it has no {setup.precision} on this CPU (it takes {chosen})")
        cosine, seconds = compare(run, setup.batch_size, expected, size)
        if cosine >= MIN_COSINE or setup.precision is not None:
            return Opened(run, chosen, openvino.__version__, cosine, seconds)
    raise CannotRun(f"its features have a cosine of {cosine:.4f} to those of eager torch")


def _import_openvino() -> Any:
    """OpenVINO without its telemetry, which would write to the user's home and call a server on every import.

    Python raises ImportError for a module that stands as None in `sys.modules`; OpenVINO then uses its stub.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


@functools.cache
def _core() -> Any:
    """OpenVINO's core, which stays until the process ends.

    Its CPU plugin gives the thread that loads it a stack for signal handlers, and would free it in whichever
    thread lets go of the last model: the next Ctrl-C or SIGTERM would then be a segmentation fault.
    """
    import openvino

    return openvino.Core()


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
        raise CannotRun(_one_line(error)) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def _compile(graph: Any, precision: str | None, threads: int | None) -> tuple[RunBatch, str]:
    config: dict[str, Any] = {}
    if precision is not None:
        config["INFERENCE_PRECISION_HINT"] = precision
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    try:
        compiled = _core().compile_model(graph, "CPU", config)
    except RuntimeError as error:
        raise CannotRun(_one_line(error)) from error
    request = compiled.create_infer_request()
    names = {"float": "f32", "float32": "f32", "bfloat16": "bf16", "float16": "f16"}
    chosen = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()

    def run(images: np.ndarray) -> np.ndarray:
        return np.array(request.infer([images], share_inputs=True)[0], dtype=np.float32)

    return run, names.get(chosen, chosen)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:_MESSAGE_CHARACTERS] or type(error).__name__
