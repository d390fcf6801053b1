"""Shards with one image that is cut off, and how a small teacher labels them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from distill.loop.execution import Execution
from distill.stages.label import LabelOptions

ONE_THREAD = Execution(device="cpu", threads=1, workers=1)
VIEWS = 3
Picture = Callable[..., np.ndarray]


def three_shards(
    root: Path, encode: Callable[..., bytes], write_tar: Callable[..., Path], noise: Picture
) -> Path:
    """Three tars of 15 images; one of the second is cut off."""
    for shard in range(3):
        members = {f"{n:04d}.jpg": encode(noise(n % 3, 100 * shard + n)) for n in range(15)}
        if shard == 1:
            members["0007.jpg"] = members["0007.jpg"][:-300]
        write_tar(root / f"{shard:06d}.tar", members)
    return root


def label_options(shards: Path, teacher: Path, out: Path, **values: object) -> LabelOptions:
    """Three views of every image, on one thread, with what `values` say."""
    options = LabelOptions((shards,), teacher, out, views=VIEWS, batch_size=8, runtime="eager")
    return replace(options, **{"execution": ONE_THREAD, **values})  # type: ignore[arg-type]
