"""A backbone with its head as one module, and the layers of backbones."""

import numpy as np
import pytest
import torch

from distill.loop.optimizer import adamw
from distill.models.adapted import Adapted
from distill.models.heads import LinearHead
from distill.models.layers import layer_numbers
from transferset.errors import UsageError
from transferset.models.backbone import load_backbone

MODELS = ("timm:test_vit@none", "timm:test_efficientnet@none", "open_clip:ViT-B-32/none")


@pytest.fixture(scope="module")
def head() -> LinearHead:
    rng = np.random.default_rng(0)
    return LinearHead(rng.normal(size=(3, 256)).astype(np.float32), np.arange(3, dtype=np.float32), 0.5)


def test_it_says_what_the_head_says_and_gives_it_back(head: LinearHead) -> None:
    backbone = load_backbone("timm:test_efficientnet@none", image_size=32)
    module = Adapted(backbone.module, 3, backbone.dimension)
    module.set_head(head)
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features, logits = backbone.module(images).numpy(), module.train()(images).numpy()
    np.testing.assert_allclose(logits, head.logits(features), rtol=1e-4, atol=1e-4)
    again = module.linear_head(2.0)
    np.testing.assert_allclose(again.logits(features) * 2, logits, rtol=1e-4, atol=1e-4)
    module.set_head(None)
    assert not module(images).any()


def test_batch_norms_stay_as_they_are_while_it_learns() -> None:
    backbone = load_backbone("timm:test_efficientnet@none", image_size=32)
    module = Adapted(backbone.module, 2, backbone.dimension).train()
    assert module.training and not any(part.training for part in module.backbone.modules())
    before = [buffer.clone() for buffer in module.buffers()]
    module(torch.randn(4, 3, 32, 32))
    assert all(torch.equal(old, new) for old, new in zip(before, module.buffers()))


@pytest.mark.parametrize(("spec", "blocks"), [(MODELS[0], 7), (MODELS[1], 6), (MODELS[2], 13)])
def test_layers_are_numbered_from_the_input_on(spec: str, blocks: int) -> None:
    module = load_backbone(spec).module
    coarse, fine = layer_numbers(module, coarse=True), layer_numbers(module, coarse=False)
    names = [name for name, _ in module.named_parameters()]
    assert set(coarse) == set(fine) == set(names)
    assert set(coarse.values()) == set(range(blocks)) and max(fine.values()) >= blocks - 1
    first = "conv1.weight" if spec.startswith("open_clip") else names[0]
    assert coarse[first] == fine[first] == 0
    assert coarse[names[-1]] == blocks - 1


def test_a_trunk_of_timm_in_open_clip_has_its_layers() -> None:
    class Tower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = load_backbone("timm:test_vit@none").module
            self.head = torch.nn.Linear(64, 8)

    layers = layer_numbers(Tower(), coarse=True)
    assert layers["trunk.pos_embed"] == 0
    assert layers["head.weight"] == layers["trunk.blocks.5.mlp.fc2.weight"] == 6


def test_rates_fall_towards_the_input_and_the_head_has_the_whole() -> None:
    backbone = load_backbone("timm:test_vit@none")
    module = Adapted(backbone.module, 2, backbone.dimension).requires_grad_(True)
    groups = adamw(module, 0.1, 0.05, layer_decay=0.5).param_groups
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    found = {name: scale[id(parameter)] for name, parameter in module.named_parameters()}
    assert found["head.weight"] == found["head.bias"] == 1
    assert found["backbone.blocks.5.mlp.fc2.weight"] == 0.5 and found["backbone.blocks.4.norm1.bias"] == 0.25
    assert found["backbone.pos_embed"] == 0.5**7
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert decays[id(module.head.bias)] == 0 and decays[id(module.head.weight)] == 0.05


def test_only_the_last_blocks_have_gradients() -> None:
    backbone = load_backbone("timm:test_vit@none")
    module = Adapted(backbone.module, 2, backbone.dimension).requires_grad_(True)
    module.tune_last(2)
    learning = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    assert {name.split(".")[2] for name in learning if ".blocks." in name} == {"4", "5"}
    assert "head.weight" in learning and "backbone.pos_embed" not in learning
    for blocks in (0, 7):
        with pytest.raises(UsageError, match="7 parts"):
            module.tune_last(blocks)
