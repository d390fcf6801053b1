import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.data.views import AUGMENTATIONS, augmentation, draw_view, render_crop
from transferset.errors import UsageError

STRONG = AUGMENTATIONS["strong"]
STANDARD = AUGMENTATIONS["standard"]


def test_a_view_is_a_function_of_seed_item_and_number() -> None:
    view = draw_view(STRONG, 3, b"0123456789abcdef", 5)
    assert draw_view(STRONG, 3, b"0123456789abcdef", 5) == view
    others = [
        draw_view(STRONG, 4, b"0123456789abcdef", 5),
        draw_view(STRONG, 3, b"1123456789abcdef", 5),
        draw_view(STRONG, 3, b"0123456789abcdef", 6),
    ]
    assert all(other.area != view.area and other.x != view.x for other in others)


def test_a_view_is_the_same_in_every_version() -> None:
    view = draw_view(STANDARD, 0, bytes(16), 0)
    assert (view.area, view.ratio, view.x, view.flip) == pytest.approx(
        (0.802568517868, 0.754346690266, 0.96276999403, True)
    )


@given(
    st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 2**31 - 1), st.binary(min_size=16, max_size=16)
)
@settings(max_examples=200, deadline=None)
def test_boxes_lie_in_the_image_and_keep_their_shape(width: int, height: int, seed: int, item: bytes) -> None:
    view = draw_view(STANDARD, seed, item, 0)
    left, upper, right, lower = view.box(width, height)
    assert 0 <= left < right <= width and 0 <= upper < lower <= height
    assert (right - left) / (lower - upper) == pytest.approx(view.ratio, rel=1e-6)
    assert (right - left) * (lower - upper) <= view.area * width * height * (1 + 1e-9)


def test_boxes_are_relative() -> None:
    view = draw_view(STANDARD, 0, b"x" * 16, 1)
    assert np.allclose(np.array(view.box(400, 300)) / 4, view.box(100, 75))


def test_views_cover_the_bounds() -> None:
    views = [draw_view(STANDARD, 0, number.to_bytes(16, "big"), 0) for number in range(3000)]
    areas, ratios = np.array([view.area for view in views]), np.log([view.ratio for view in views])
    assert np.isclose(areas.mean(), (0.35 + 1) / 2, atol=0.01) and areas.min() < 0.36 and areas.max() > 0.99
    assert abs(ratios.mean()) < 0.01 and np.isclose(ratios.max(), math.log(4 / 3), atol=0.01)
    assert np.isclose(np.mean([view.flip for view in views]), 0.5, atol=0.03)
    assert all(view.brightness == view.contrast == view.saturation == 1 for view in views)


def test_crops_of_two_sizes_show_the_same(picture: Callable[..., np.ndarray]) -> None:
    rgb = picture(200, 150)
    for number in range(8):
        view = draw_view(STRONG, 0, b"x" * 16, number)
        large, small = render_crop(rgb, view, 96, "bicubic"), render_crop(rgb, view, 48, "bicubic")
        means = large.reshape(48, 2, 48, 2, 3).mean(axis=(1, 3))
        assert large.shape == (96, 96, 3) and large.dtype == np.uint8
        assert abs(means - small).mean() < 4


def test_flip_is_a_mirror_and_colour_changes(picture: Callable[..., np.ndarray]) -> None:
    from dataclasses import replace

    view = replace(draw_view(STANDARD, 0, b"x" * 16, 0), flip=False)
    plain = render_crop(picture(), view, 32, "bilinear")
    mirrored = render_crop(picture(), replace(view, flip=True), 32, "bilinear")
    assert np.array_equal(mirrored, plain[:, ::-1])
    darker = render_crop(picture(), replace(view, brightness=0.6), 32, "bilinear")
    assert darker.mean() == pytest.approx(0.6 * plain.mean(), rel=0.02)


def test_unknown_augmentation_names_the_known_ones() -> None:
    with pytest.raises(UsageError) as error:
        augmentation("mild")
    assert "standard" in str(error.value.hint)
