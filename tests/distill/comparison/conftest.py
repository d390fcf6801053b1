"""A task of coloured noise with all three splits, transfer sets for it, and a recipe of seconds."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.distill.small import CHANNELS, TINY


@pytest.fixture(scope="session")
def task(
    tmp_path_factory: pytest.TempPathFactory,
    encode: Callable[..., bytes],
    noise: Callable[[int, int], np.ndarray],
) -> Path:
    """Red, green and blue noise: 6 training, 4 val and 5 test images of each."""
    root = tmp_path_factory.mktemp("task")
    for start, split, count in ((0, "train", 6), (100, "val", 4), (200, "test", 5)):
        for channel, label in enumerate(CHANNELS):
            folder = root / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number}.png").write_bytes(encode(noise(channel, start + number), "png"))
    return root


@pytest.fixture(scope="session")
def pool_set(
    tmp_path_factory: pytest.TempPathFactory,
    encode: Callable[..., bytes],
    noise: Callable[[int, int], np.ndarray],
    write_tar: Callable[[Path, Mapping[str, bytes]], Path],
) -> Path:
    """A tar of 12 unlabelled images."""
    members = {f"{number:03}.png": encode(noise(number % 3, 300 + number), "png") for number in range(12)}
    return write_tar(tmp_path_factory.mktemp("sets") / "pool" / "000000.tar", members).parent


@pytest.fixture
def recipe_values(task: Path, pool_set: Path) -> dict[str, Any]:
    """A recipe as plain values: two methods on one set, two seeds."""
    return {
        "task": str(task),
        "labels": [3],
        "seeds": [0, 1],
        "teacher": {"spec": TINY, "image_size": 32},
        "student": {"spec": TINY, "image_size": 24},
        "transfer_sets": {"pool": str(pool_set)},
        "methods": ["labels-only", "task-oriented"],
        "train": {"steps": 4, "batch_size": 6, "lr": "1e-3", "views": 2},
        "finetune": {"steps": 2, "batch_size": 6},
        "labels_only": {"steps": [2], "augments": ["light"], "lrs": [1e-3], "batch_size": 6},
        "runtime": "eager",
    }


@pytest.fixture
def write_recipe(tmp_path: Path, recipe_values: dict[str, Any]) -> Callable[..., Path]:
    """`write_recipe(**changes)`: the recipe as a file, with keys replaced (None: left out)."""

    def write(**changes: Any) -> Path:
        values = {key: value for key, value in (recipe_values | changes).items() if value is not None}
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return write
