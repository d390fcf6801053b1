import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.encoding.crops import CROPS, SHARE, crops, encode_views
from curate.encoding.pipeline import PipelineOptions, Unreadable, encode_items
from transferset.models.backbone import load_backbone
from transferset.models.runtime import FrozenModel, open_runtime
from transferset.models.spec import parse_spec

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def model() -> FrozenModel:
    backbone = load_backbone(parse_spec("timm:test_efficientnet@none"), image_size=32)
    return open_runtime(backbone, runtime="eager", batch_size=4)


def test_the_centre_and_the_corners() -> None:
    image = np.arange(50 * 80 * 3).reshape(50, 80, 3)
    found = crops(image)
    tall, wide = math.ceil(SHARE * 50), math.ceil(SHARE * 80)
    assert len(found) == CROPS - 1 and {one.shape for one in found} == {(tall, wide, 3)}
    assert (found[1] == image[:tall, :wide]).all() and (found[4] == image[-tall:, -wide:]).all()
    assert (found[0] == image[6 : 6 + tall, 10 : 10 + wide]).all()


def test_the_first_view_is_the_image_and_the_others_are_its_crops(
    model: FrozenModel, picture: Make, encode: Make, tmp_path: Path
) -> None:
    images = [encode(picture(90, 70, seed=seed), "png") for seed in range(7)]
    plain = list(encode_items(model, images, bytes, PipelineOptions(2)))
    found = list(encode_views(model, images, bytes, PipelineOptions(2)))
    assert [one[1].shape for one in found if not isinstance(one, Unreadable)] == [
        (CROPS, model.dimension)
    ] * 7
    for one, alone in zip(found, plain, strict=True):
        np.testing.assert_allclose(one[1][0], alone.embedding, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(one[1], axis=1), 1, atol=1e-5)
    corner = encode(picture(90, 70, seed=3)[: math.ceil(SHARE * 70), : math.ceil(SHARE * 90)], "png")
    (cut,) = encode_items(model, [corner], bytes, PipelineOptions(1))
    np.testing.assert_allclose(found[3][1][2], cut.embedding, atol=1e-5)


def test_what_cant_be_read_keeps_its_place(model: FrozenModel, picture: Make, encode: Make) -> None:
    images = [encode(picture()), b"no picture", encode(picture(seed=1))]
    found = list(encode_views(model, images, bytes, PipelineOptions(2)))
    assert [isinstance(one, Unreadable) for one in found] == [False, True, False]
