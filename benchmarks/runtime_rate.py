"""The chosen runtime against eager torch on this machine: images per second and cosine.

    python benchmarks/runtime_rate.py [--images FOLDER] [--encoder embedded --encoder open_clip:ViT-B-32/none]

Each encoder runs in turns on what `--runtime auto` takes and on eager torch in fp32, with the same batch size
and threads. Cosines are of the images in FOLDER, or else of made-up ones. Aims: `embedded` at least 2 times
as fast, `open_clip:ViT-B-32/none` not slower, every cosine at least 0.999.
"""

import argparse
import os
import statistics
import time
from itertools import islice
from pathlib import Path

import numpy as np

from transferset.images import IMAGE_SUFFIXES, decode
from transferset.models.agreement import sample_images, worst_cosine
from transferset.models.backbone import Backbone, load_backbone
from transferset.models.runtime import FrozenModel, open_runtime


def images_of(folder: Path | None, backbone: Backbone, count: int) -> np.ndarray:
    """(n, size, size, 3) uint8."""
    preprocessing = backbone.preprocessing
    if folder is None:
        return sample_images(preprocessing.size)
    paths = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES)
    pixels = [
        decode(path.read_bytes(), short_side=preprocessing.resize_short_side) for path in islice(paths, count)
    ]
    return np.stack([preprocessing.render(rgb) for rgb in pixels])


def features(model: FrozenModel, images: np.ndarray) -> np.ndarray:
    starts = range(0, len(images), model.batch_size)
    return np.concatenate([model(images[start : start + model.batch_size]) for start in starts])


def rate(model: FrozenModel, batch: np.ndarray, seconds: float) -> float:
    """Images per second for about so long."""
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        done += len(model(batch))
    return done / (time.perf_counter() - start)


def compare(spec: str, given: argparse.Namespace) -> None:
    opened = {}
    for runtime in ("eager", given.runtime):
        backbone = load_backbone(spec, image_size=given.image_size)
        precision = "fp32" if runtime == "eager" else "auto"
        opened[runtime] = open_runtime(
            backbone,
            runtime=runtime,
            precision=precision,
            batch_size=given.batch_size,
            device="cpu",
            threads=given.threads,
        )
    eager, chosen = opened["eager"], opened[given.runtime]
    images = images_of(given.images, backbone, given.count)
    cosine = worst_cosine(features(chosen, images), features(eager, images))
    batch = np.resize(images, (given.batch_size, *images.shape[1:]))
    for model in (eager, chosen):
        model(batch)
    pairs = [[rate(model, batch, given.seconds) for model in (eager, chosen)] for _ in range(given.rounds)]
    ratios = sorted(fast / slow for slow, fast in pairs)
    middle = (
        pairs[0] if len(pairs) == 1 else [statistics.median(column) for column in zip(*pairs, strict=True)]
    )
    info = chosen.info
    print(
        f"{spec}: eager fp32 {middle[0]:.1f} images/s, {info.runtime} {info.precision} {middle[1]:.1f}, "
        f"ratio {ratios[len(ratios) // 2]:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}); smallest cosine of "
        f"{len(images)} images {cosine:.5f}{f'; {info.note}' if info.note else ''}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--encoder", action="append")
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--count", type=int, default=200, help="images of the folder")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    for spec in given.encoder or ("embedded", "open_clip:ViT-B-32/none"):
        compare(spec, given)


if __name__ == "__main__":
    main()
