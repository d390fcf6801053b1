"""Shards that several modules label, and a measurement that takes no time."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="module")
def shards(
    tmp_path_factory: pytest.TempPathFactory,
    encode: Callable[..., bytes],
    write_tar: Callable[..., Path],
    noise: Callable[..., np.ndarray],
) -> Path:
    """Three tars of 15 images; one of the second is cut off. (Modules that train have their own.)"""
    root = tmp_path_factory.mktemp("shards") / "set"
    for shard in range(3):
        members = {f"{n:04d}.jpg": encode(noise(n % 3, 100 * shard + n)) for n in range(15)}
        if shard == 1:
            members["0007.jpg"] = members["0007.jpg"][:-300]
        write_tar(root / f"{shard:06d}.tar", members)
    return root


@pytest.fixture(scope="module")
def short_measurements() -> Iterator[None]:
    """The speed of a model is measured for a moment only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distill.export.speed.SECONDS", 0.02)
        yield
