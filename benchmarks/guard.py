"""Which planted copies the leakage guard finds, and how many innocent images it removes.

    python benchmarks/guard.py --pool POOL --images DIR --work DIR [--number 300] [--innocents 3000]

Takes test images from --images (any depth), edits them (JPEG at quality 30, a crop of 70 % of each side,
mirrored, half size, a frame, grey, and all pairs of these; then harder ones) and asks about every copy as if
it stood in the pool and had been selected. An index of the pool (built in --work, or given with --index; it
is calibrated if it is not yet) gives the encoder and the innocents: a seeded sample of its rows, and the rows
nearest to the test images. A row for each kind of copy: suspected by cosine, found, and found as a copy of
the right image.
"""

import argparse
import io
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from curate.calibration import calibrate
from curate.encoding.pipeline import PipelineOptions, available_cores, encode_items
from curate.encoding.views import embed_views
from curate.index import BuildOptions, Index, build_index, open_index
from curate.index.numbering import Numbering
from curate.near import IndexEncoder
from curate.selection.near_copies import (
    NearCopies,
    embeddings_of,
    pool_bytes,
    stack_views,
)
from curate.selection.thresholds import stored_calibration
from transferset.copies import item_id
from transferset.models.runtime import FrozenModel

Edit = Callable[[Image.Image, np.random.Generator], Image.Image]


def encoded(image: Image.Image, quality: int = 90) -> bytes:
    """As a JPEG."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def crop(share: float) -> Edit:
    """A part of `share` of each side, anywhere."""

    def edit(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        width, height = round(share * image.width), round(share * image.height)
        left, top = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
        return image.crop((left, top, left + width, top + height))

    return edit


def frame(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    colour = tuple(rng.integers(0, 256, 3).tolist())
    return ImageOps.expand(image, max(1, round(0.12 * min(image.size))), colour)


def written_over(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    image, tall = image.copy(), max(1, round(0.15 * image.height))
    top = int(rng.integers(image.height - tall))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, top, image.width, top + tall), fill=(0, 0, 0))
    draw.text((2, top), "BREAKING NEWS: see inside", fill=(255, 255, 255))
    return image


def logo(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    image, side = image.copy(), int((0.15 * image.width * image.height) ** 0.5)
    left, top = int(rng.integers(image.width - side)), int(rng.integers(image.height - side))
    draw = ImageDraw.Draw(image)
    draw.ellipse((left, top, left + side, top + side), fill=(220, 20, 60))
    draw.rectangle((left + side // 3, top + side // 3, left + side // 2, top + side // 2), fill=(255, 255, 0))
    return image


def recoloured(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    hsv = np.array(image.convert("HSV"))
    hsv[..., 0] += 90
    image = Image.fromarray(hsv, "HSV").convert("RGB")
    return ImageEnhance.Brightness(ImageEnhance.Contrast(image).enhance(1.5)).enhance(0.7)


SIMPLE: dict[str, Edit] = {
    "JPEG q30": lambda image, rng: Image.open(io.BytesIO(encoded(image, 30))).convert("RGB"),
    "crop 70 %": crop(0.7),
    "flip": lambda image, rng: ImageOps.mirror(image),
    "resize x0.5": lambda image, rng: image.resize((image.width // 2, image.height // 2)),
    "border": frame,
    "grey": lambda image, rng: image.convert("L").convert("RGB"),
}
HARDER: dict[str, Edit] = {
    "crop 50 %": crop(0.5),
    "10° rotation": lambda image, rng: image.rotate(10, Image.Resampling.BICUBIC),
    "text over 15 %": written_over,
    "logo over 15 %": logo,
    "strong colour change": recoloured,
}


def edits() -> Iterator[tuple[str, tuple[Edit, ...]]]:
    """Every kind of copy: its name and the edits, in turn."""
    yield from ((name, (edit,)) for name, edit in SIMPLE.items())
    for first, second in itertools.combinations(SIMPLE, 2):
        yield f"{first} + {second}", (SIMPLE[first], SIMPLE[second])
    yield from ((name, (edit,)) for name, edit in HARDER.items())


def copies_of(images: list[bytes], kind: tuple[Edit, ...], seed: int) -> list[bytes]:
    """One copy of each image."""
    rng, made = np.random.default_rng(seed), []
    for data in images:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        for edit in kind:
            image = edit(image, rng)
        made.append(encoded(image))
    return made


def embed(model: FrozenModel, images: list[bytes]) -> np.ndarray:
    """(n, d) float16 as an index stores them."""
    rows = [one.embedding for one in encode_items(model, images, lambda data: data)]  # type: ignore[union-attr]
    return np.stack(rows).astype(np.float16)


def innocents(index: Index, near: NearCopies, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions: a seeded sample of the index's items, and as many that are nearest to any image."""
    numbering = Numbering(index.parts)
    everything = numbering.positions(np.arange(numbering.total))
    best = np.concatenate(
        [
            near.cosines(embeddings_of(index, everything[start : start + 2048])).max(axis=1)
            for start in range(0, len(everything), 2048)
        ]
    )
    sample = np.random.default_rng(0).permutation(everything)[:number]
    return sample, everything[np.argsort(-best, kind="stable")[:number]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--index", type=Path, help="a ready index of the pool")
    parser.add_argument("--encoder", default="embedded")
    parser.add_argument("--number", type=int, default=300)
    parser.add_argument("--innocents", type=int, default=3_000)
    arguments = parser.parse_args()
    path = arguments.index or arguments.work / "index"
    if arguments.index is None:
        build_index([arguments.pool], path, BuildOptions(encoder=arguments.encoder))
    index = open_index(path)
    model = IndexEncoder(index).model
    calibration = stored_calibration(index.path, index.manifest) or calibrate(index, model).calibration
    print(f"thresholds: {calibration.thresholds}", flush=True)
    paths = sorted(arguments.images.rglob("*.jpg"))
    chosen = np.random.default_rng(0).permutation(len(paths))[: arguments.number]
    images = [paths[number].read_bytes() for number in sorted(chosen.tolist())]
    pipeline = PipelineOptions(available_cores())
    start = time.perf_counter()
    views = stack_views(embed_views(model, images, lambda data: data, pipeline), model.dimension)
    print(
        f"{views.shape[0] * views.shape[1]} views embedded in {time.perf_counter() - start:.1f} s", flush=True
    )
    near = NearCopies(views, lambda number: images[number], calibration, workers=available_cores())
    exact = {item_id(data) for data in images}
    print(
        f"{'copy of ' + str(len(images)) + ' images':28}{'suspected':>10}{'found':>8}{'right':>8}", flush=True
    )
    same = sum(item_id(bytes(data)) in exact for data in images)
    print(f"{'the same bytes':28}{'':>10}{same / len(images):8.1%}{same / len(images):8.1%}")
    total = found = 0
    for number, (name, kind) in enumerate(edits()):
        copies = copies_of(images, kind, number)
        rows = embed(model, copies)
        suspected = (near.cosines(rows).max(axis=1) >= calibration.thresholds.leak).mean()
        hits = near.among(list(range(len(copies))), rows, lambda one, copies=copies: copies[one])
        right = sum(hit.image == hit.item for hit in hits)
        print(
            f"{name:28}{suspected:10.1%}{len(hits) / len(copies):8.1%}{right / len(copies):8.1%}", flush=True
        )
        if name not in HARDER:
            total, found = total + len(copies), found + len(hits)
    print(f"{'all but the harder':28}{'':>10}{found / total:8.2%}   (aim: 98 %)", flush=True)
    for name, positions in zip(
        ("innocents, sampled", "innocents, nearest"),
        innocents(index, near, arguments.innocents),
        strict=True,
    ):
        before, start = near.compared, time.perf_counter()
        hits = near.among(
            index.items(positions), embeddings_of(index, positions), lambda item: pool_bytes(index, item)
        )
        print(
            f"{name:28}{len(hits) / len(positions):18.2%}   {len(hits)} of {len(positions)} removed, "
            f"{near.compared - before} comparisons, {time.perf_counter() - start:.0f} s (aim: 0.2 %)",
            flush=True,
        )


if __name__ == "__main__":
    main()
