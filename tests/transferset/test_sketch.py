"""What of an image is compared: how large, without which frame, and that light and contrast are no matter."""

from collections.abc import Callable

import numpy as np
import pytest

from transferset.sketch import COARSE_SIDE, SIDE, Sketch, sketch

Picture = Callable[..., np.ndarray]


def framed(rgb: np.ndarray, colour: int, top: int, right: int, bottom: int, left: int) -> np.ndarray:
    return np.pad(rgb, ((top, bottom), (left, right), (0, 0)), constant_values=colour)


@pytest.mark.parametrize(("width", "height"), [(400, 400), (800, 200), (60, 240), (20, 20)])
def test_it_has_the_shape_of_its_image_and_about_as_many_pixels(
    picture: Picture, width: int, height: int
) -> None:
    grey = sketch(picture(width, height)).grey
    assert grey.dtype == np.float32
    assert grey.size == pytest.approx(SIDE * SIDE, rel=0.05)
    assert grey.shape[1] / grey.shape[0] == pytest.approx(width / height, rel=0.05)


def test_no_side_is_shorter_than_eight(picture: Picture) -> None:
    assert sketch(picture(1, 1)).grey.shape == (SIDE, SIDE)
    assert min(sketch(picture(4000, 3)).grey.shape) == min(sketch(picture(3, 4000)).grey.shape) == 8


@pytest.mark.parametrize("colour", [0, 130, 255])
@pytest.mark.parametrize(
    "sides", [(20, 20, 20, 20), (30, 0, 0, 0), (0, 25, 0, 0), (0, 0, 30, 0), (0, 0, 0, 25)]
)
def test_a_frame_of_one_colour_is_taken_off(
    picture: Picture, colour: int, sides: tuple[int, int, int, int]
) -> None:
    rgb = picture(120, 120, seed=1)
    found = sketch(framed(rgb, colour, *sides)).grey
    plain = sketch(rgb).grey
    assert found.shape[0] == pytest.approx(plain.shape[0], abs=2)
    assert np.corrcoef(Sketch(found).resized(plain.shape).grey.ravel(), plain.ravel())[0, 1] > 0.98


def test_a_frame_is_at_most_a_third_from_each_side(picture: Picture) -> None:
    inside = picture(60, 120, seed=1)
    grey = sketch(framed(inside, 0, 0, 240, 0, 0)).grey  # 300 x 120, of which 100 columns are taken off
    assert grey.shape[1] / grey.shape[0] == pytest.approx(200 / 120, rel=0.05)


def test_an_image_without_frame_is_left_whole(picture: Picture) -> None:
    assert sketch(picture(120, 90)).grey.shape == pytest.approx((SIDE * 0.866, SIDE / 0.866), abs=1)


def test_at_its_own_size_it_is_the_same_and_kept(picture: Picture) -> None:
    made = sketch(picture(100, 100))
    assert np.array_equal(made.resized(made.grey.shape).grey, made.grey)
    assert made.resized((20, 30)).grey.shape == (20, 30)
    assert made.resized((20, 30)) is made.resized((20, 30))


def test_what_is_searched_is_smaller_than_what_is_aligned(picture: Picture) -> None:
    made = sketch(picture(300, 300))
    assert made.coarse.shape == (COARSE_SIDE, COARSE_SIDE)
    assert made.structure.shape == made.detail.shape == (SIDE, SIDE)


def test_a_plain_image_has_neither_structure_nor_detail() -> None:
    made = sketch(np.full((90, 120, 3), 77, np.uint8))
    assert not made.coarse.any() and not made.structure.any() and not made.detail.any()


def test_structure_is_the_same_in_other_light_and_contrast(picture: Picture) -> None:
    rgb = picture(200, 200, seed=2)
    plain, dull = sketch(rgb), sketch((rgb // 2 + 100).astype(np.uint8))
    assert np.abs(dull.structure).mean() > 0.7 * np.abs(plain.structure).mean()
    assert np.corrcoef(plain.structure.ravel(), dull.structure.ravel())[0, 1] > 0.98
    assert np.abs(dull.detail).mean() == pytest.approx(np.abs(plain.detail).mean() / 2, rel=0.1)


def test_fine_texture_is_detail_and_slow_light_is_none() -> None:
    ramp = np.linspace(0, 255, 300, dtype=np.uint8)
    slow = np.broadcast_to(ramp[None, :, None], (300, 300, 3))
    fine = np.kron(np.indices((30, 30)).sum(axis=0) % 2 * 255, np.ones((10, 10))).astype(np.uint8)
    texture = np.broadcast_to(fine[..., None], (300, 300, 3))
    assert np.abs(sketch(texture).detail).mean() > 10
    inner = np.s_[8:-8, 8:-8]  # light that ends at the edge is no detail of it
    assert np.abs(sketch(slow).detail[inner]).max() < 0.5
