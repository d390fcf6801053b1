"""What a run cost: images, seconds and floating-point operations of every stage."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@dataclass
class Stage:
    """One stage's images, wall-clock seconds (of its threads, which run beside each other) and FLOPs."""

    images: int = 0
    seconds: float = 0.0
    flops: float = 0.0


@dataclass
class Ledger:
    """Costs by stage, summed over resumed pieces of a run. One multiplication with addition is two FLOPs."""

    stages: dict[str, Stage] = field(default_factory=dict)

    def add(self, stage: str, images: int = 0, seconds: float = 0.0, flops: float = 0.0) -> None:
        """Add to a stage."""
        entry = self.stages.setdefault(stage, Stage())
        entry.images += images
        entry.seconds += seconds
        entry.flops += flops

    @contextlib.contextmanager
    def timed(self, stage: str, images: int = 0, flops: float = 0.0) -> Iterator[None]:
        """Add the body's seconds to a stage."""
        start = time.perf_counter()
        yield
        self.add(stage, images, time.perf_counter() - start, flops)

    def to_dict(self) -> dict[str, Any]:
        """As JSON: `{stage: {images, seconds, flops}}`."""
        return {name: asdict(stage) for name, stage in self.stages.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Ledger":
        """The inverse of `to_dict`."""
        return cls({name: Stage(**entry) for name, entry in values.items()})


def flops_per_image(module: "nn.Module", size: int, *, backward: bool) -> float:
    """FLOPs of one image (3, size, size) through a model, with the backward pass if asked; nothing is
    changed.

    Counted by `torch.utils.flop_counter`: matrix products, convolutions and attention.
    """
    import copy

    import torch
    from torch.utils.flop_counter import FlopCounterMode

    twin = copy.deepcopy(module).train(backward)
    device = next(twin.parameters()).device
    images = torch.zeros(2, 3, size, size, device=device)
    counter = FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.convolution_backward: _convolution_backward}
    )
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), counter:
        with torch.set_grad_enabled(backward):
            outputs = twin(images)
        if backward:
            outputs.sum().backward()
    return counter.get_total_flops() / len(images)


def _convolution_backward(
    grad_out: Sequence[int], x: Sequence[int], w: Sequence[int], *others: Any, **kept: Any
) -> int:
    """Of shapes: the gradient of the input and that of the weight, of those that are asked for, each as much
    as the convolution itself. torch's own count leaves the groups out, which makes depthwise layers tens of
    times as dear as they are."""
    from torch.utils.flop_counter import conv_flop_count

    transposed, output_mask = others[4], others[7]
    one = conv_flop_count(list(x), list(w), list(grad_out), transposed=transposed)
    return int(one) * sum(output_mask[:2])
