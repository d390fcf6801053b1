"""AdamW, and its state as named tensors."""

from collections.abc import Set
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer


def adamw(
    module: "nn.Module",
    lr: float,
    weight_decay: float,
    *,
    head: Set[str] = frozenset(),
    backbone_lr_scale: float = 1.0,
    layer_decay: float | None = None,
) -> "Optimizer":
    """AdamW (Loshchilov, Hutter, 2019) over everything that has a gradient; norms and biases don't
    decay, nor what a model of timm says shouldn't (such as position embeddings).

    The rate of a group is to be multiplied by its `lr_scale`: `backbone_lr_scale` for all but the parameters
    whose names are in `head`; with `layer_decay`, each layer's is that share of the next one's, the last
    layer's 1 (BEiT: Bao et al., 2022), by the layers that the module names (`group_matcher`, as timm's do).
    """
    import torch
    from timm.optim import param_groups_layer_decay, param_groups_weight_decay

    spared = _spared(module)
    if layer_decay is None:
        groups = param_groups_weight_decay(module, weight_decay, no_weight_decay_list=spared)
    else:
        groups = param_groups_layer_decay(
            module, weight_decay, no_weight_decay_list=spared, layer_decay=layer_decay
        )
    if backbone_lr_scale != 1.0:
        of_head = {id(parameter) for name, parameter in module.named_parameters() if name in head}
        groups = [part for group in groups for part in _split(group, of_head, backbone_lr_scale)]
    return torch.optim.AdamW(groups, lr=lr, fused=True)


def _spared(module: "nn.Module") -> list[str]:
    """Names of the parameters that the module, or a part of it, wants no weight decay for."""
    found = []
    for prefix, part in module.named_modules():
        names = getattr(part, "no_weight_decay", None)
        found += [f"{prefix}.{name}".lstrip(".") for name in names()] if callable(names) else []
    return found


def _split(group: dict[str, Any], head: Set[int], scale: float) -> list[dict[str, Any]]:
    """The parameters of the head and those of the backbone, which go slower."""
    parts = [[p for p in group["params"] if (id(p) in head) is wanted] for wanted in (True, False)]
    scaled = zip(parts, (1.0, scale), strict=True)
    return [{**group, "params": part, "lr_scale": factor} for part, factor in scaled if part]


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
