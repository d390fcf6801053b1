import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from transferset.alignment import SAME_PICTURE, agreement
from transferset.sketch import sketch


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


def _parts(name: str) -> list[np.ndarray]:
    """Separate parts, 92 pixels wide, of a photograph of something that repeats."""
    folder = Path(pytest.importorskip("skimage").__file__).parent / "data"
    rgb = np.asarray(Image.open(folder / name).convert("RGB"))
    height, width, _ = rgb.shape
    places = itertools.product(range(2, height - 92, 96), range(2, width - 92, 96))
    return [rgb[top : top + 92, left : left + 92] for top, left in places]


@pytest.mark.parametrize("name", ["brick.png", "page.png"])
def test_parts_of_one_texture_are_seldom_taken_for_copies(name: str) -> None:
    sketches = [sketch(part) for part in _parts(name)]
    pairs = list(itertools.combinations(sketches, 2))[:: max(1, len(sketches) // 2)]
    taken = sum(agreement(one, other) >= SAME_PICTURE for one, other in pairs)
    assert taken <= 0.25 * len(pairs)


@pytest.mark.parametrize("name", ["brick.png", "page.png"])
def test_a_copy_of_a_texture_is_still_found(name: str) -> None:
    for part in _parts(name)[:4]:
        original, image = sketch(part), Image.fromarray(part)
        for copy in (image, ImageOps.mirror(image), image.crop((10, 14, 80, 84)), image.resize((46, 46))):
            assert agreement(original, sketch(np.asarray(copy))) >= SAME_PICTURE
