"""Floating-point operations of a model; one multiplication with addition is two."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from distill.models.attention import without_fast_path

if TYPE_CHECKING:
    from torch import nn


def flops_per_image(module: "nn.Module", size: int, *, backward: bool) -> float:
    """FLOPs of one image (3, size, size) through a model, with the backward pass if asked; nothing is
    changed.

    Counted by `torch.utils.flop_counter`: matrix products and convolutions, and those of attention, which is
    kept from running in fused kernels that the counter does not know.
    """
    import copy

    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    twin = copy.deepcopy(module).train(backward)
    device = next(twin.parameters()).device
    images = torch.zeros(2, 3, size, size, device=device)
    counter = FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.convolution_backward: _convolution_backward}
    )
    seeded = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    with seeded, counter, sdpa_kernel(SDPBackend.MATH), without_fast_path():
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
