from dataclasses import replace

import numpy as np
import pytest
import timm
import torch

from transferset.errors import UsageError
from transferset.models.backbone import load_backbone
from transferset.models.grid import GridShape, grid_shape, summary_and_grid, with_grid
from transferset.models.runtime import open_runtime


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_convnext", "test_vit"])
def test_models_of_timm_give_both_in_one_pass(name: str) -> None:
    backbone = load_backbone(f"timm:{name}@none")
    images = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = summary_and_grid(backbone.module, images)
        assert found is not None
        summary, grid = found
        assert torch.allclose(summary, backbone.module(images), atol=1e-5)
    side = 10 if name == "test_vit" else 5
    assert grid.shape[2:] == (side, side)
    assert grid_shape(backbone.module, 160, name) == GridShape(summary.shape[1], grid.shape[1], side)


def test_places_are_where_they_are_in_the_image() -> None:
    """Only the lower right corner differs."""
    for name in ("test_vit", "test_resnet"):
        module = load_backbone(f"timm:{name}@none").module
        plain = torch.zeros(1, 3, 160, 160)
        changed = plain.clone()
        changed[..., 128:, 128:] = 3.0
        with torch.no_grad():
            before, after = (summary_and_grid(module, images) for images in (plain, changed))
        assert before is not None and after is not None
        difference = (after[1] - before[1]).norm(dim=1)[0]
        corner = difference.shape[0] - 1
        assert difference.flatten().argmax().item() == corner * difference.shape[0] + corner, name


def test_channels_last_of_a_swin_transformer() -> None:
    module = timm.create_model("swin_tiny_patch4_window7_224", pretrained=False, num_classes=0).eval()
    assert grid_shape(module, 224, "swin") == GridShape(768, 768, 7)


@pytest.mark.parametrize("family", ["own transformer", "tower of timm"])
def test_towers_of_open_clip(family: str) -> None:
    from open_clip.timm_model import TimmModel

    if family == "own transformer":
        module, size, side = load_backbone("open_clip:ViT-S-32-alt/none", image_size=64).module, 64, 2
    else:
        module, size, side = TimmModel("test_vit", 32, image_size=160).eval(), 160, 10
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = summary_and_grid(module, images)
        assert found is not None and found[1].shape[2:] == (side, side)
        assert torch.allclose(found[0], module(images), atol=1e-5)


def test_a_model_without_parts_says_so() -> None:
    with pytest.raises(UsageError, match="flat gives no grid"):
        grid_shape(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2)), 2, "flat")
    with pytest.raises(UsageError, match="the grid of small has one place for images of 32 pixels"):
        grid_shape(load_backbone("timm:test_resnet@none").module, 32, "small")


@pytest.mark.parametrize("runtime", ["eager", "openvino"])
@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit"])
def test_it_runs_like_any_backbone(name: str, runtime: str) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino")
    backbone = load_backbone(f"timm:{name}@none")
    both, shape = with_grid(backbone)
    assert both.dimension == shape.width and both.fingerprint == backbone.fingerprint
    images = np.random.default_rng(0).integers(0, 256, (3, 160, 160, 3), np.uint8)
    model = open_runtime(both, runtime=runtime, batch_size=4, threads=1)  # type: ignore[arg-type]
    plain = open_runtime(replace(backbone), runtime="eager", batch_size=4, threads=1)
    rows = model(images)
    assert rows.shape == (3, shape.width)
    cosine = (rows[:, : shape.summary] * plain(images)).sum(axis=1)
    cosine /= np.linalg.norm(rows[:, : shape.summary], axis=1) * np.linalg.norm(plain(images), axis=1)
    assert cosine.min() > 0.999
