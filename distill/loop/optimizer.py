"""AdamW, and its state as named tensors."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer


def adamw(module: "nn.Module", lr: float, weight_decay: float) -> "Optimizer":
    """AdamW (Loshchilov, Hutter, 2019) over everything that has a gradient; norms and biases don't decay."""
    import torch
    from timm.optim import param_groups_weight_decay

    groups = param_groups_weight_decay(module, weight_decay)
    return torch.optim.AdamW(groups, lr=lr, fused=True)


def optimizer_tensors(optimizer: "Optimizer", module: "nn.Module") -> dict[str, "Tensor"]:
    """The optimizer's state by parameter name: `<parameter>.<exp_avg, …>`."""
    return {
        f"{name}.{key}": value
        for name, parameter in module.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(optimizer: "Optimizer", module: "nn.Module", tensors: dict[str, "Tensor"]) -> None:
    """The inverse of `optimizer_tensors`. The state takes each parameter's memory layout, which the fused
    kernel relies on."""
    import torch

    parameters = dict(module.named_parameters())
    for full_name, tensor in tensors.items():
        name, _, key = full_name.rpartition(".")
        parameter = parameters[name]
        if tensor.shape == parameter.shape and key != "step":
            tensor = torch.empty_like(parameter, requires_grad=False).copy_(tensor)
        optimizer.state[parameter][key] = tensor.to(parameter.device)
