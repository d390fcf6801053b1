"""Preprocessing: the libraries' own evaluation transforms, on uint8."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from transferset.errors import DataError
from transferset.models.preprocessing import Preprocessing
from transferset.models.spec import parse_spec

HALVES = (0.5, 0.5, 0.5)
PLAIN = Preprocessing(64, "shortest", 0.875, "bicubic", HALVES, HALVES)


@pytest.mark.parametrize(
    "name",
    ["test_vit", "tf_efficientnet_lite0", "mobilenetv3_small_075", "vit_base_patch16_siglip_224", "resnet18"],
)
def test_it_equals_the_transform_of_timm(name: str, photographs: list[np.ndarray]) -> None:
    import timm
    from timm.data import create_transform, resolve_data_config

    from transferset.models.timm_models import timm_preprocessing

    class Declared:
        pretrained_cfg = timm.get_pretrained_cfg(name).to_dict()

    config = resolve_data_config(pretrained_cfg=Declared.pretrained_cfg)
    theirs = create_transform(**config, is_training=False)
    ours = timm_preprocessing(Declared(), parse_spec(f"timm:{name}@none"))  # type: ignore[arg-type]
    _assert_equal_transforms(ours, theirs, photographs)


@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_it_equals_the_transform_of_open_clip(
    resize_mode: str, interpolation: str, photographs: list[np.ndarray]
) -> None:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    from transferset.models.open_clip_models import open_clip_preprocessing

    config = PreprocessCfg(size=96, resize_mode=resize_mode, interpolation=interpolation)
    ours = open_clip_preprocessing(vars(config), parse_spec("open_clip:ViT-B-32/none"))
    _assert_equal_transforms(ours, image_transform_v2(config, is_train=False), photographs)


def _assert_equal_transforms(ours: Preprocessing, theirs, photographs: list[np.ndarray]) -> None:  # type: ignore[no-untyped-def]
    for rgb in photographs:
        expected = theirs(Image.fromarray(rgb)).permute(1, 2, 0).numpy()
        grey_levels = np.rint((expected * np.array(ours.std) + np.array(ours.mean)) * 255)
        difference = np.abs(ours.render(rgb).astype(int) - grey_levels)
        assert difference.max() <= 2
        assert difference.mean() < 0.02


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (63, 64), (64, 64), (300, 60), (40, 1000)])
def test_every_shape_gives_a_square(shape: tuple[int, int], interpolation: str) -> None:
    rgb = np.full((*shape, 3), 77, np.uint8)
    for resize in ("shortest", "squash"):
        rendered = replace(PLAIN, resize=resize, interpolation=interpolation).render(rgb)  # type: ignore[arg-type]
        assert rendered.shape == (64, 64, 3)
        assert rendered.dtype == np.uint8
        assert rendered.flags.c_contiguous
        assert (rendered == 77).all()


def test_a_long_image_is_cropped_at_the_same_place_as_a_short_one(cat: np.ndarray) -> None:
    """Long images take another way, which makes only the crop."""
    from transferset.models import preprocessing

    whole = PLAIN.render(cat)
    height, width = cat.shape[:2]
    scaled = (PLAIN.resize_short_side, int(PLAIN.resize_short_side * width / height))
    corner = (round((scaled[0] - 64) / 2), round((scaled[1] - 64) / 2))
    crop = preprocessing._resample_crop(cat, scaled, corner, 64, "bicubic")
    assert np.abs(whole.astype(int) - crop).max() <= 1


def test_a_read_only_image_is_rendered(cat: np.ndarray) -> None:
    locked = cat.copy()
    locked.flags.writeable = False
    assert np.array_equal(PLAIN.render(locked), PLAIN.render(cat))


def test_the_size_to_decode_for_and_another_input_size() -> None:
    assert replace(PLAIN, size=224).resize_short_side == 256
    assert PLAIN.with_size(128) == replace(PLAIN, size=128)


def test_it_survives_json() -> None:
    assert Preprocessing.from_dict(json.loads(json.dumps(PLAIN.to_dict()))) == PLAIN


@pytest.mark.parametrize(
    "change",
    [
        {"size": 0},
        {"resize": "longest"},
        {"crop_pct": 0.0},
        {"crop_pct": 1.5},
        {"interpolation": "random"},
        {"std": [0.0, 1.0, 1.0]},
        {"mean": [0.5]},
        {"colour": 1},
    ],
)
def test_impossible_values_are_named(change: dict[str, object]) -> None:
    with pytest.raises(DataError) as error:
        Preprocessing.from_dict({**PLAIN.to_dict(), **change})
    assert next(iter(change)) in error.value.message
