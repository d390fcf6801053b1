"""timm: random weights, weights of a file, image sizes, and what goes wrong."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from transferset.errors import DataError, UsageError
from transferset.models.backbone import load_backbone


def test_weights_of_a_file_are_the_models(tmp_path: Path) -> None:
    torch.manual_seed(5)
    saved = timm.create_model("test_vit", num_classes=7).eval()
    save_file(saved.state_dict(), tmp_path / "a.safetensors")
    backbone = load_backbone(f"timm:test_vit@{tmp_path / 'a.safetensors'}")
    images = torch.randn(2, 3, 160, 160)
    saved.reset_classifier(0)
    with torch.no_grad():
        assert torch.equal(backbone.module(images), saved(images))


def test_where_weights_were_read_from_does_not_change_the_fingerprint(tmp_path: Path) -> None:
    random = load_backbone("timm:test_efficientnet@none", seed=1)
    save_file(random.module.state_dict(), tmp_path / "a.safetensors")
    read = load_backbone(f"timm:test_efficientnet@{tmp_path / 'a.safetensors'}")
    assert read.fingerprint == random.fingerprint
    assert read.weights_sha256 == random.weights_sha256


@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet"])
def test_another_image_size(name: str) -> None:
    backbone = load_backbone(f"timm:{name}@none", image_size=96)
    assert backbone.preprocessing.size == 96
    with torch.no_grad():
        assert backbone.module(torch.zeros(1, 3, 96, 96)).shape == (1, backbone.dimension)
    assert backbone.fingerprint != load_backbone(f"timm:{name}@none").fingerprint


def test_an_impossible_image_size_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="cannot take images of 4 pixels"):
        load_backbone("timm:test_vit@none", image_size=4)
    with pytest.raises(UsageError, match="not positive"):
        load_backbone("timm:test_vit@none", image_size=0)


def test_an_unknown_model_is_a_usage_error_with_the_nearest_names() -> None:
    with pytest.raises(UsageError) as error:
        load_backbone("timm:mobilenetv3_smal_075@none")
    assert "mobilenetv3_small_075" in (error.value.hint or "")


@pytest.mark.parametrize("spec", ["timm:resnet18", "timm:resnet18.no_such_tag", "timm:test_vit4"])
def test_hub_weights_that_cannot_be_had(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataError) as error:
        load_backbone(spec)
    assert spec in error.value.message
    assert "--encoder embedded" in (error.value.hint or "")


def test_files_that_do_not_fit_are_data_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(DataError, match=r"timm:test_vit@.*No such file"):
        load_backbone(f"timm:test_vit@{path}")
    path.write_bytes(b"not safetensors")
    with pytest.raises(DataError, match="cannot read the weights"):
        load_backbone(f"timm:test_vit@{path}")
    save_file(timm.create_model("test_resnet").state_dict(), path)
    with pytest.raises(DataError, match="does not hold the weights of timm's test_vit"):
        load_backbone(f"timm:test_vit@{path}")
    state = timm.create_model("test_vit").state_dict()
    state["pos_embed"] = state["pos_embed"][:, :10].contiguous()
    save_file(state, path)
    with pytest.raises(DataError, match=r"1 of another shape \(pos_embed\)"):
        load_backbone(f"timm:test_vit@{path}")
