"""The pixels that libraries give, as digests: other pixels are noticed, other versions are not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageEnhance

from distill.data.decoder import decoder_pixels, decoder_versions, require_same_pixels
from distill.data.views import augmentation
from transferset import images
from transferset.errors import UsageError
from transferset.models.preprocessing import Preprocessing

MODEL = Preprocessing(32, "shortest", 0.875, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
STORE = Path("store")


def _changed(here: dict[str, str], there: dict[str, str]) -> set[str]:
    return {name for name in here if here[name] != there[name]}


def _pixels(augment: str = "strong") -> dict[str, str]:
    return decoder_pixels(augmentation(augment), MODEL)


def _fast_dct(data: bytes, colorspace: str, **given: Any) -> np.ndarray:
    pixels: np.ndarray = DECODE(data, colorspace, **given, fastdct=True)
    return pixels


def _no_less_than_a_quarter(data: bytes, colorspace: str, **given: Any) -> np.ndarray:
    sides = {name: max(9, side) for name, side in given.items() if name in ("min_height", "min_width")}
    pixels: np.ndarray = DECODE(data, colorspace, **{**given, **sides})
    return pixels


DECODE, RESIZE, ENHANCE = simplejpeg.decode_jpeg, Image.Image.resize, ImageEnhance.Color.enhance


def _softer(self: Image.Image, size: tuple[int, int], resample: Any = None, **given: Any) -> Image.Image:
    return RESIZE(self, size, Image.Resampling.BILINEAR, **given)


def test_they_are_the_same_every_time_and_those_of_what_is_rendered() -> None:
    assert _pixels() == _pixels() and len(set(_pixels().values())) == 5
    assert _changed(_pixels("standard"), _pixels()) == {"views"}
    assert _changed(_pixels("none"), _pixels()) == {"views"}
    larger = decoder_pixels(augmentation("strong"), replace(MODEL, size=48))
    assert _changed(larger, _pixels()) == {"views"}


@pytest.mark.parametrize(
    ("owner", "name", "other", "changed"),
    [
        (simplejpeg, "decode_jpeg", _fast_dct, {"jpeg"}),
        (simplejpeg, "decode_jpeg", _no_less_than_a_quarter, {"jpeg"}),
        (images, "_to_rgb", lambda image: image.convert("L").convert("RGB"), {"cmyk jpeg", "png", "webp"}),
        (Image.Image, "resize", _softer, {"views"}),
        (ImageEnhance.Color, "enhance", lambda self, factor: ENHANCE(self, factor + 0.02), {"views"}),
    ],
)
def test_another_decoder_or_resize_is_noticed(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, other: Callable[..., Any], changed: set[str]
) -> None:
    before = _pixels()
    monkeypatch.setattr(owner, name, other)
    assert _changed(_pixels(), before) == changed


def test_other_versions_that_give_the_same_pixels_will_do() -> None:
    here, versions = _pixels(), {**decoder_versions(), "pillow": "9.0"}
    require_same_pixels(STORE, {"decoder": {"pixels": here, "versions": versions}}, _pixels())
    there = {**here, "webp": "0" * 16}
    with pytest.raises(UsageError, match=r"other pixels for webp \(pillow 9\.0 there, .* here\)") as caught:
        require_same_pixels(STORE, {"decoder": {"pixels": there, "versions": versions}}, here)
    assert "label into another directory" in str(caught.value.hint)
    with pytest.raises(UsageError, match="built otherwise"):
        require_same_pixels(STORE, {"decoder": {"pixels": there, "versions": decoder_versions()}}, here)
    with pytest.raises(UsageError, match="earlier version"):
        require_same_pixels(STORE, {"decoder": versions}, here)
