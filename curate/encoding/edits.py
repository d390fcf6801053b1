"""Edited copies of an image, as the web makes them: what thresholds are calibrated on."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageOps

Edit = Callable[[Image.Image, np.random.Generator], Image.Image]


@dataclass(frozen=True)
class Copies:
    """Edited copies of one image, each (h, w, 3) uint8: `slight` ones, which look the same at a glance, and
    `strong` ones."""

    slight: list[np.ndarray]
    strong: list[np.ndarray]


def edited_copies(rgb: np.ndarray, rng: np.random.Generator) -> Copies:
    """One copy of each kind, then three with two random edits."""
    image = Image.fromarray(rgb)
    strong = [edit(image, rng) for edit in STRONG]
    for _ in range(3):
        first, second = rng.choice(len(STRONG), 2, replace=False).tolist()
        strong.append(STRONG[second](STRONG[first](image, rng), rng))
    return Copies(_arrays([edit(image, rng) for edit in SLIGHT]), _arrays(strong))


def _arrays(images: list[Image.Image]) -> list[np.ndarray]:
    return [np.asarray(_encoded(image, 90)) for image in images]


def _encoded(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def _reencode(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return _encoded(image, int(rng.integers(25, 60)))


def _scale(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    share = rng.uniform(0.45, 0.8)
    size = max(8, round(share * image.width)), max(8, round(share * image.height))
    return image.resize(size, Image.Resampling.BICUBIC)


def _cut(image: Image.Image, share: float, rng: np.random.Generator) -> Image.Image:
    width, height = max(1, round(share * image.width)), max(1, round(share * image.height))
    left = int(rng.integers(image.width - width + 1))
    top = int(rng.integers(image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


def _trim(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return _cut(image, rng.uniform(0.9, 0.97), rng)


def _crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return _cut(image, rng.uniform(0.65, 0.9), rng)


def _flip(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageOps.mirror(image)


def _grey(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image.convert("L").convert("RGB")


def _frame(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    breadth = max(1, round(rng.uniform(0.04, 0.15) * min(image.size)))
    colour = tuple(rng.integers(0, 256, 3).tolist())
    return ImageOps.expand(image, breadth, colour)


def _write_over(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    image = image.copy()
    draw = ImageDraw.Draw(image)
    tall = max(1, round(rng.uniform(0.08, 0.15) * image.height))
    top = int(rng.integers(image.height - tall + 1))
    dark, light = (0, 0, 0), (255, 255, 255)
    draw.rectangle((0, top, image.width, top + tall), fill=dark)
    draw.text((2, top), "read all about it here", fill=light, font_size=max(6, round(0.8 * tall)))
    return image


def _turn(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return image.rotate(rng.uniform(-6, 6), Image.Resampling.BICUBIC)


SLIGHT: tuple[Edit, ...] = (_reencode, _scale, _trim)
STRONG: tuple[Edit, ...] = (_reencode, _crop, _flip, _scale, _frame, _grey, _write_over, _turn)
