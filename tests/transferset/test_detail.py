import numpy as np
import pytest
from scipy import ndimage

from transferset.detail import places, same_detail

STRAIGHT, NOWHERE = np.eye(2), np.zeros(2)


@pytest.fixture
def scene() -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 30, (56, 56))
    return ndimage.gaussian_filter(noise, 1.0).astype(np.float32)


@pytest.fixture
def wall(scene: np.ndarray) -> np.ndarray:
    """The same 14 x 14 pixels again and again."""
    return np.tile(scene[:14, :14], (4, 4))


def test_a_picture_agrees_with_itself_and_at_no_other_place(scene: np.ndarray) -> None:
    here, elsewhere = places(scene, scene)
    assert here == pytest.approx(1, abs=1e-3)
    assert elsewhere < 0.5
    assert same_detail(scene, scene, STRAIGHT, NOWHERE) > 0.95


def test_what_repeats_agrees_as_well_at_another_place(wall: np.ndarray) -> None:
    here, elsewhere = places(wall, wall)
    assert here == pytest.approx(elsewhere, abs=0.02)


def test_half_of_a_picture_is_found_in_it(scene: np.ndarray) -> None:
    half = scene[:, :28]
    assert same_detail(scene, half, STRAIGHT, np.array([0.0, 14.0])) > 0.95


def test_what_repeats_but_for_its_blemishes_is_told_by_them(wall: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    one, other = (wall + ndimage.gaussian_filter(rng.normal(0, 12, (56, 56)), 1.0) for _ in range(2))
    one, other = one.astype(np.float32), other.astype(np.float32)
    assert same_detail(one, one, STRAIGHT, NOWHERE) > 0.95
    assert same_detail(one, other, STRAIGHT, NOWHERE) == 0


def test_a_pattern_without_blemishes_is_the_same_picture(wall: np.ndarray) -> None:
    assert same_detail(wall, wall, STRAIGHT, NOWHERE) > 0.95


def test_pixels_that_the_copy_lacks_do_not_count(scene: np.ndarray) -> None:
    laid = scene.copy()
    laid[:, 30:] = np.nan
    assert places(scene, laid)[0] == pytest.approx(1, abs=1e-3)
