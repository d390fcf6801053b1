import pytest
from torch import nn

from distill.loop.optimizer import adamw


def _module() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def test_norms_and_biases_do_not_decay() -> None:
    groups = adamw(_module(), 0.1, 0.05).param_groups
    assert {len(group["params"]): group["weight_decay"] for group in groups} == {4: 0.0, 2: 0.05}


def test_the_backbone_goes_slower_than_the_head() -> None:
    module = _module()
    groups = adamw(module, 0.1, 0.05, head={"2.weight", "2.bias"}, backbone_lr_scale=0.1).param_groups
    scale = {id(p): (group["lr_scale"], group["weight_decay"]) for group in groups for p in group["params"]}
    found = {name: scale[id(parameter)] for name, parameter in module.named_parameters()}
    assert found["2.weight"] == (1.0, 0.05) and found["2.bias"] == (1.0, 0.0)
    assert found["0.weight"] == (0.1, 0.05) and found["1.weight"] == pytest.approx((0.1, 0.0))
