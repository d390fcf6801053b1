"""A small labelled set of photographs-like pictures, in which tests plant copies."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Scene = Callable[[int], Image.Image]


@pytest.fixture(scope="session")
def scene() -> Scene:
    """`scene(seed)`: a picture (120 x 96) with shapes of all sizes, different for every seed."""

    def make(seed: int) -> Image.Image:
        rng = np.random.default_rng(seed)
        layers = np.zeros((96, 120, 3))
        for cells, weight in ((3, 1.0), (7, 0.8), (15, 0.6), (31, 0.5)):
            noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
            layers += weight * (np.asarray(noise.resize((120, 96), Image.Resampling.BICUBIC)) - 128.0)
        return Image.fromarray(np.clip(layers / 1.5 + 128, 0, 255).astype(np.uint8))

    return make


@pytest.fixture
def splits(tmp_path: Path, scene: Scene) -> Path:
    """train, val and test with six, two and two different pictures of each of two classes."""
    seed = 0
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        for label in ("cat", "dog"):
            folder = tmp_path / "set" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                scene(seed).save(folder / f"{number}.png")
                seed += 1
    return tmp_path / "set"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is known from other tests."""
    monkeypatch.setenv("TRANSFERSET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
