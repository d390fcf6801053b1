"""The encoder of queries: unit vectors of images and texts."""

from collections.abc import Callable

import numpy as np
import pytest

from curate.encoding.encoder import Encoder, EncoderRequest, open_encoder, unit_rows
from transferset.errors import NumericError, UsageError
from transferset.images import ImageError


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return open_encoder(
        EncoderRequest("timm:test_efficientnet@none", image_size=64, runtime="eager", batch_size=4)
    )


def test_images_give_unit_vectors_whatever_their_number(
    encoder: Encoder, picture: Callable[..., np.ndarray], encode: Callable[..., bytes]
) -> None:
    images = [encode(picture(100, 80, seed), "png") for seed in range(6)]
    vectors = encoder.encode_images(images)
    assert vectors.shape == (6, encoder.dimension)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.array_equal(encoder.encode_images(images[4:5])[0], vectors[4])
    assert encoder.encode_images([]).shape == (0, encoder.dimension)


def test_decoded_images_give_the_same_as_encoded_ones(
    encoder: Encoder, picture: Callable[..., np.ndarray], encode: Callable[..., bytes]
) -> None:
    rgb = picture(90, 70, 1)
    assert np.array_equal(encoder.encode_rgb([rgb]), encoder.encode_images([encode(rgb, "png")]))


def test_an_unreadable_image_and_one_too_large_come_out_as_image_errors(
    encoder: Encoder, picture: Callable[..., np.ndarray], encode: Callable[..., bytes]
) -> None:
    with pytest.raises(ImageError):
        encoder.encode_images([b"no image"])
    with pytest.raises(ImageError, match="too many pixels"):
        encoder.encode_images([encode(picture(100, 80), "png")], max_pixels=7999)


def test_texts_need_a_text_tower(encoder: Encoder) -> None:
    with pytest.raises(UsageError, match="no text tower"):
        encoder.encode_texts(["a cat"])


def test_texts_are_unit_vectors_of_the_images_space(tinyclip) -> None:  # type: ignore[no-untyped-def]
    clip = open_encoder(EncoderRequest(f"open_clip:local-dir:{tinyclip}", runtime="eager", batch_size=1))
    vectors = clip.encode_texts(["a beach", "a cat"])
    assert vectors.shape == (2, clip.dimension)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_features_that_are_not_finite_are_a_numeric_error() -> None:
    with pytest.raises(NumericError, match="not finite"):
        unit_rows(np.array([[1.0, np.nan]]), "toy")
    assert np.array_equal(
        unit_rows(np.array([[0.0, 0.0], [3.0, 4.0]]), "toy"), np.float32([[0, 0], [0.6, 0.8]])
    )
