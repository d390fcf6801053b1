"""Small models and a photograph for the tests of models."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SMALL_CLIP = {
    "model_cfg": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {
        "size": 64,
        "mean": [0.48, 0.46, 0.41],
        "std": [0.27, 0.26, 0.28],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
}


@pytest.fixture(scope="session")
def cat() -> np.ndarray:
    """scikit-image's photograph of a cat, (300, 451, 3) uint8."""
    data = pytest.importorskip("skimage.data", reason="scikit-image (extra `demo`) has the photographs")
    photograph: np.ndarray = data.chelsea()
    return photograph


@pytest.fixture(scope="session")
def photographs(cat: np.ndarray) -> list[np.ndarray]:
    """A few photographs of different shapes."""
    from skimage import data

    return [cat, data.astronaut(), data.coffee(), data.rocket(), cat[:200, :180], data.coffee()[:, ::-1]]


@pytest.fixture(scope="session")
def small_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as open_clip writes it, of a tiny CLIP with random weights."""
    return write_clip(tmp_path_factory.mktemp("small_clip"), SMALL_CLIP)


def write_clip(directory: Path, config: dict[str, Any]) -> Path:
    """Write configuration and seeded random weights of a CLIP into a directory."""
    import open_clip
    import torch
    from safetensors.torch import save_model

    torch.manual_seed(3)
    (directory / "open_clip_config.json").write_text(json.dumps(config))
    save_model(open_clip.CLIP(**config["model_cfg"]), str(directory / "open_clip_model.safetensors"))
    return directory
