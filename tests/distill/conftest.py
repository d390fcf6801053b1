"""Red, green and blue noise as a task that a tiny model learns in seconds."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from distill.stages.adapt import AdaptOptions, adapt
from tests.distill.small import CHANNELS, ONE_THREAD, TINY


def make_noise(channel: int, seed: int) -> np.ndarray:
    """(40, 48, 3) uint8 in which one channel is stronger."""
    rgb = np.random.default_rng((channel, seed)).integers(0, 120, (40, 48, 3), dtype=np.uint8)
    rgb[..., 2 - channel] += 60
    return rgb


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory, encode: Callable[..., bytes]) -> Path:
    """Red, green and blue noise in train and val."""
    root = tmp_path_factory.mktemp("labelled")
    for start, split, count in ((0, "train", 6), (100, "val", 4)):
        for channel, label in enumerate(CHANNELS):
            folder = root / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number}.png").write_bytes(encode(make_noise(channel, start + number), "png"))
    return root


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory, labelled: Path) -> Path:
    out = tmp_path_factory.mktemp("teacher") / "teacher"
    adapt(AdaptOptions(labelled, TINY, out, image_size=48, runtime="eager", execution=ONE_THREAD))
    return out


@pytest.fixture(scope="session")
def noise() -> Callable[[int, int], np.ndarray]:
    """`noise(channel, seed)`: an image of one of the classes."""
    return make_noise


@pytest.fixture(scope="session")
def noise_tar(
    tmp_path_factory: pytest.TempPathFactory, encode: Callable[..., bytes], write_tar: Callable[..., Path]
) -> Callable[..., Path]:
    """`noise_tar(count)`: a tar of so many unlabelled images, red, green and blue in turn, with the seeds
    from `first` on; that of number `cut` is cut off."""

    def written(count: int, first: int = 1000, cut: int | None = None) -> Path:
        members = {f"{n:04d}.jpg": encode(make_noise(n % 3, first + n)) for n in range(count)}
        if cut is not None:
            members[f"{cut:04d}.jpg"] = members[f"{cut:04d}.jpg"][:-300]
        return write_tar(tmp_path_factory.mktemp("noise") / "noise.tar", members)

    return written


@pytest.fixture
def distill(run_command: Callable[..., tuple[int, str, str]]) -> Callable[..., tuple[int, str, str]]:
    """`distill(*arguments)`: exit code, stdout and stderr."""
    from distill import cli

    return partial(run_command, cli.app)
