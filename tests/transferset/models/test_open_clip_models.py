"""open_clip: directories, random weights, text towers, and what goes wrong."""

import copy
import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from transferset.errors import DataError, UsageError
from transferset.models.backbone import load_backbone

from .conftest import SMALL_CLIP, write_clip


def test_a_directory_gives_what_open_clip_gives(small_clip: Path, cat: np.ndarray) -> None:
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{small_clip}")
    tokenize = open_clip.get_tokenizer(f"local-dir:{small_clip}")
    texts = ["a cat", "a rocket on its way to the sky"]
    with torch.no_grad():
        theirs = model.eval().encode_image(transform(Image.fromarray(cat))[None])[0].numpy()
        their_texts = model.encode_text(tokenize(texts)).numpy()
    backbone = load_backbone(f"open_clip:local-dir:{small_clip}")
    preprocessing = backbone.preprocessing
    pixels = torch.from_numpy(preprocessing.render(cat)).permute(2, 0, 1)[None] / 255
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    with torch.no_grad():
        ours = backbone.module((pixels - mean) / std)[0].numpy()
    assert ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs) > 0.9999
    assert backbone.text is not None
    assert np.allclose(backbone.text.encode(texts), their_texts, atol=1e-5)
    assert backbone.text.encode([]).shape == (0, backbone.dimension)


def test_the_real_clip_finds_the_text_of_a_photograph(tinyclip: Path, cat: np.ndarray) -> None:
    backbone = load_backbone(f"open_clip:local-dir:{tinyclip}")
    assert backbone.preprocessing.resize == "squash"
    assert backbone.text is not None
    pixels = torch.from_numpy(backbone.preprocessing.render(cat)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        image = backbone.module(pixels)[0].numpy()
    texts = backbone.text.encode(["a photo of a cat", "a photo of a beach", "a photo of a kitchen"])
    assert np.argmax(texts @ image / np.linalg.norm(texts, axis=1)) == 0


def test_random_weights_follow_the_seed_and_leave_the_global_state_alone() -> None:
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    first = load_backbone("open_clip:ViT-S-32-alt/none", seed=1)
    assert torch.equal(torch.rand(1), expected)
    again, other = (load_backbone("open_clip:ViT-S-32-alt/none", seed=seed) for seed in (1, 2))
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_another_image_size(small_clip: Path) -> None:
    backbone = load_backbone(f"open_clip:local-dir:{small_clip}", image_size=96)
    assert backbone.preprocessing.size == 96
    with torch.no_grad():
        assert backbone.module(torch.zeros(2, 3, 96, 96)).shape == (2, 32)


def test_unknown_models_and_tags(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as unknown:
        load_backbone("open_clip:ViT-B-23/openai")
    assert "ViT-B-32" in (unknown.value.hint or "")
    with pytest.raises(DataError) as tag:
        load_backbone("open_clip:ViT-B-32/laion3b")
    assert "laion2b_s34b_b79k" in tag.value.message
    assert "--encoder embedded" in (tag.value.hint or "")


def test_hub_weights_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataError) as error:
        load_backbone("open_clip:ViT-B-32/laion2b_s34b_b79k")
    assert "no weights for open_clip:ViT-B-32/laion2b_s34b_b79k" in error.value.message
    assert "--encoder embedded" in (error.value.hint or "")


def test_what_is_not_an_open_clip_directory(tmp_path: Path) -> None:
    spec = f"open_clip:local-dir:{tmp_path}"
    with pytest.raises(DataError, match="is not an open_clip directory"):
        load_backbone(spec)
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(DataError, match="no model_cfg"):
        load_backbone(spec)
    (tmp_path / "open_clip_config.json").write_text(json.dumps(SMALL_CLIP))
    with pytest.raises(DataError, match="has no weights"):
        load_backbone(spec)
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(DataError, match="no weights for"):
        load_backbone(spec)


def test_a_pickle_that_runs_code_is_not_loaded(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "owned",))  # type: ignore[return-value]

    (tmp_path / "open_clip_config.json").write_text(json.dumps(SMALL_CLIP))
    torch.save({"state_dict": Hostile()}, tmp_path / "open_clip_pytorch_model.bin")
    with pytest.raises(DataError):
        load_backbone(f"open_clip:local-dir:{tmp_path}")
    assert not (tmp_path / "owned").exists()


def test_padding_to_the_longest_side_is_refused(tmp_path: Path) -> None:
    config = copy.deepcopy(SMALL_CLIP)
    config["preprocess_cfg"]["resize_mode"] = "longest"
    with pytest.raises(DataError, match="longest"):
        load_backbone(f"open_clip:local-dir:{write_clip(tmp_path, config)}")


def test_weights_that_change_under_a_running_process_are_noticed(tmp_path: Path) -> None:
    backbone = load_backbone(f"open_clip:local-dir:{write_clip(tmp_path, SMALL_CLIP)}")
    torch.manual_seed(99)
    other = open_clip.CLIP(**SMALL_CLIP["model_cfg"])  # type: ignore[arg-type]
    torch.save(other.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    (tmp_path / "open_clip_model.safetensors").unlink()
    assert backbone.text is not None
    with pytest.raises(DataError, match="have changed"):
        backbone.text.encode(["a cat"])
