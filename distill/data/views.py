"""Views (augmentations) as pure functions of (seed, item id, view number), in relative source coordinates.

Every model renders the same view at its own size, so a teacher's output on a view stays valid for any
student.
"""

import hashlib
import math
import struct
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

from transferset.errors import UsageError


@dataclass(frozen=True)
class Augmentation:
    """What views may look like.

    `scale`: share of the image's area that a crop takes; `ratio`: its width over its height in pixels;
    `flip`: mirrored left to right half of the time; `colour`: brightness, contrast and saturation each change
    by a factor in 1 ± colour. `crop` False: the model's own resize and centre crop, no random crop.
    """

    crop: bool = True
    scale: tuple[float, float] = (0.35, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    colour: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }


AUGMENTATIONS = {
    "none": Augmentation(crop=False, flip=False),
    "light": Augmentation(scale=(0.65, 1.0)),
    "standard": Augmentation(),
    "strong": Augmentation(scale=(0.2, 1.0), colour=0.4),
}


def augmentation(name: str) -> Augmentation:
    """The augmentation called `name`; UsageError naming the known ones."""
    if name not in AUGMENTATIONS:
        raise UsageError(f"unknown --augment {name!r}", hint=f"one of: {', '.join(AUGMENTATIONS)}")
    return AUGMENTATIONS[name]


def augmentation_name(augment: Augmentation) -> str:
    """What it is called."""
    return next(name for name, known in AUGMENTATIONS.items() if known == augment)


@dataclass(frozen=True)
class View:
    """One view: a crop (area, ratio, and where it lies in what is left over, all relative), flip, colour
    factors."""

    crop: bool
    area: float
    ratio: float
    x: float
    y: float
    flip: bool
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0

    def box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The crop (left, upper, right, lower) in pixels of a raster of this size, whatever its scale.

        A crop that does not fit into the image is shrunk, its shape kept.
        """
        across = math.sqrt(self.area * self.ratio * height / width)
        down = math.sqrt(self.area / self.ratio * width / height)
        excess = max(across, down, 1.0)
        across, down = across / excess, down / excess
        left, upper = self.x * (1.0 - across), self.y * (1.0 - down)
        return (
            left * width,
            upper * height,
            min(left + across, 1.0) * width,
            min(upper + down, 1.0) * height,
        )


def draw_view(augment: Augmentation, seed: int, item_id: bytes, number: int) -> View:
    """The view with this number of this item: the same on every machine, in every process, for every model.

    Eight uniform numbers come out of one BLAKE2b of (seed, number, item id). Area is uniform and ratio
    log-uniform within the bounds, as in the random resized crop of Szegedy et al. (2015).
    """
    key = struct.pack("<qq", seed, number)
    digest = hashlib.blake2b(item_id, digest_size=64, key=key, person=b"transferset-view").digest()
    u = [(word >> 11) * 2.0**-53 for word in struct.unpack("<8Q", digest)]
    low, high = augment.scale
    narrow, wide = math.log(augment.ratio[0]), math.log(augment.ratio[1])
    colours = [1.0 + augment.colour * (2.0 * x - 1.0) for x in u[5:8]]
    return View(
        crop=augment.crop,
        area=low + (high - low) * u[0],
        ratio=math.exp(narrow + (wide - narrow) * u[1]),
        x=u[2],
        y=u[3],
        flip=augment.flip and u[4] < 0.5,
        brightness=colours[0],
        contrast=colours[1],
        saturation=colours[2],
    )


def render_crop(rgb: np.ndarray, view: View, size: int, interpolation: str) -> np.ndarray:
    """The view of an image (h, w, 3) uint8 as (size, size, 3) uint8, resized with antialiasing from the
    crop's sub-pixel box. `interpolation`: `bilinear`, `bicubic`, `lanczos`, `nearest`, …, as PIL calls
    them."""
    image = Image.fromarray(rgb)
    resample = Image.Resampling[interpolation.upper()]
    return np.asarray(recolour(image.resize((size, size), resample, box=view.box(*image.size)), view))


def recolour(image: Image.Image, view: View) -> Image.Image:
    """The view's flip and colour changes, applied to an image that has its final size."""
    if view.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for kind, factor in (
        (ImageEnhance.Brightness, view.brightness),
        (ImageEnhance.Contrast, view.contrast),
        (ImageEnhance.Color, view.saturation),
    ):
        if factor != 1.0:
            image = kind(image).enhance(factor)
    return image
