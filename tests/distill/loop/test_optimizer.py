import pytest
import timm
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


@pytest.mark.parametrize(("part", "layer_decay"), [("", None), ("", 0.8), ("0.", None)])
def test_what_the_model_spares_does_not_decay(part: str, layer_decay: float | None) -> None:
    """Also as a part of another module."""
    model = timm.create_model("test_vit", num_classes=2)
    module = nn.Sequential(model) if part else model
    groups = adamw(module, 0.1, 0.05, layer_decay=layer_decay).param_groups
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    found = {name: decay[id(parameter)] for name, parameter in module.named_parameters()}
    assert found[f"{part}pos_embed"] == found[f"{part}cls_token"] == 0
    assert found[f"{part}blocks.0.attn.qkv.weight"] == 0.05
