"""What holds for backbones of every family."""

from pathlib import Path

import pytest
import torch

from transferset.models.backbone import Backbone, load_backbone
from transferset.models.weights import weights_sha256


@pytest.fixture(params=["embedded", "timm:test_vit@none", "timm:test_efficientnet@none", "open_clip"])
def backbone(request: pytest.FixtureRequest, small_clip: Path) -> Backbone:
    spec = f"open_clip:local-dir:{small_clip}" if request.param == "open_clip" else request.param
    return load_backbone(spec)


def test_it_is_frozen_and_gives_one_vector_an_image(backbone: Backbone) -> None:
    assert not backbone.module.training
    assert not any(parameter.requires_grad for parameter in backbone.module.parameters())
    size = backbone.preprocessing.size
    assert backbone.module(torch.zeros(2, 3, size, size)).shape == (2, backbone.dimension)
    assert backbone.weights_sha256 == weights_sha256(backbone.module)


def test_loading_again_gives_the_same_fingerprint(backbone: Backbone) -> None:
    assert load_backbone(str(backbone.spec)).fingerprint == backbone.fingerprint


def test_seeds_are_told_apart_and_the_global_state_stays() -> None:
    torch.manual_seed(4)
    expected = torch.rand(1)
    torch.manual_seed(4)
    first, other = (load_backbone("timm:test_vit@none", seed=seed) for seed in (0, 1))
    assert torch.equal(torch.rand(1), expected)
    assert first.fingerprint != other.fingerprint
