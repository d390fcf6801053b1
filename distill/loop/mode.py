"""How a student's steps are computed: precision, memory format, compiled or not; and what is done so that a
step stays right in it."""

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from transferset.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

PRECISIONS = ("fp32", "bf16", "fp16")
SMALLEST_SCALE = 1.0


@dataclass(frozen=True)
class Mode:
    """`precision` of the forward and backward pass: weights, loss, gradients and the optimizer are float32 in
    each. `channels_last`: the memory format of images and weights. `compiled`: by torch.compile."""

    precision: str = "fp32"
    channels_last: bool = True
    compiled: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As JSON, for config.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> "Mode":
        """The inverse of `to_dict`; None: a run that was begun when there was one mode only."""
        return cls(**(values or {}))

    def __str__(self) -> str:
        layout = "channels last" if self.channels_last else "contiguous"
        return f"{self.precision}, {layout}, {'compiled' if self.compiled else 'not compiled'}"


PLAIN = Mode()


class Arithmetic:
    """A module in a mode: the forward pass, and gradients that are scaled where fp16 would lose them.

    The module is changed in place (its memory format); what is compiled shares its weights.
    """

    def __init__(self, module: "nn.Module", mode: Mode) -> None:
        import torch

        kinds = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
        self.mode = mode
        self.kind = kinds[mode.precision]
        self.layout = torch.channels_last if mode.channels_last else torch.contiguous_format
        module.to(memory_format=self.layout)  # type: ignore[call-overload]
        self.device = next(module.parameters()).device.type
        self.forward: Callable[[Tensor], Any] = (
            torch.compile(module, dynamic=False) if mode.compiled else module
        )
        self.scaler = torch.amp.GradScaler(self.device) if mode.precision == "fp16" else None

    def outputs(self, inputs: "Tensor") -> Any:
        """The module's answer to normalised float32 images, in float32."""
        inputs = inputs.contiguous(memory_format=self.layout)
        with self._autocast():
            outputs = self.forward(inputs)
        return outputs.float() if hasattr(outputs, "float") else outputs

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        import torch

        if self.kind is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device, dtype=self.kind)

    def backward(self, loss: "Tensor") -> None:
        """Add the gradients of a loss to those that are there."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def unscale(self, optimizer: "Optimizer") -> None:
        """Make the gradients those of the loss itself."""
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)

    def adjust(self, finite: bool) -> bool:
        """Learn from what the gradients were; whether they may have overflown, and the same step can be tried
        again at a smaller scale."""
        if self.scaler is None:
            return False
        tried = self.scaler.get_scale()
        self.scaler.update()
        return not finite and tried > SMALLEST_SCALE

    def state(self) -> dict[str, Any]:
        """What the next step depends on, as JSON."""
        return {} if self.scaler is None else self.scaler.state_dict()

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        if self.scaler is not None and state:
            self.scaler.load_state_dict(dict(state))


def check_mode(precision: str, compile_student: str) -> None:
    """UsageError for words that are none of the options'."""
    if precision not in ("auto", *PRECISIONS):
        raise UsageError(
            f"unknown --student-precision {precision!r}", f"choose one of auto, {', '.join(PRECISIONS)}"
        )
    if compile_student not in ("auto", "on", "off"):
        raise UsageError(f"unknown --compile {compile_student!r}", "choose one of auto, on, off")


def why_not_compile(device: str) -> str | None:
    """Why torch.compile cannot work here; None: it should."""
    compiler = os.environ.get("CXX") or "g++"
    if device == "cpu" and shutil.which(compiler) is None:
        return f"torch.compile needs a C++ compiler, and there is no {compiler}"
    return None
