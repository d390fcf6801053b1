import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from transferset.alignment import SAME_PICTURE, agreement, sketch


@pytest.fixture(scope="module")
def photos(scenes20: Path) -> list[Image.Image]:
    paths = sorted((scenes20 / "test").rglob("*.jpg"))[::400]
    return [Image.open(path).convert("RGB") for path in paths]


def _crop(image: Image.Image) -> Image.Image:
    width, height = image.size
    return image.crop((width // 5, height // 4, width // 5 + width * 6 // 10, height // 4 + height * 6 // 10))


EDITS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "itself": lambda image: image,
    "part": _crop,
    "mirrored part": lambda image: ImageOps.mirror(_crop(image)),
    "small": lambda image: image.resize((image.width // 2, image.height // 2)),
    "framed": lambda image: ImageOps.expand(image, 14, (200, 30, 30)),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "turned": lambda image: image.rotate(8, Image.Resampling.BICUBIC),
    "squeezed": lambda image: image.resize((image.width, image.height * 4 // 5)),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_copy_agrees_with_its_original_both_ways(photos: list[Image.Image], edit: str) -> None:
    for photo in photos[:2]:
        original, copy = sketch(np.asarray(photo)), sketch(np.asarray(EDITS[edit](photo)))
        assert agreement(original, copy) >= SAME_PICTURE
        if edit != "mirrored part":
            assert agreement(copy, original) >= SAME_PICTURE


def test_other_photographs_do_not_agree(photos: list[Image.Image]) -> None:
    sketches = [sketch(np.asarray(photo)) for photo in photos]
    for one, other in itertools.pairwise(sketches):
        assert agreement(one, other) < SAME_PICTURE


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (64, 64)])
def test_a_plain_image_shows_nothing_that_could_agree(shape: tuple[int, int]) -> None:
    plain = sketch(np.full((*shape, 3), 200, np.uint8))
    assert agreement(plain, plain) == 0
