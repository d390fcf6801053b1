import hashlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from transferset.copies import item_id, perceptual_hash, pixel_hash
from transferset.images import decode

Picture = Callable[..., np.ndarray]
Encode = Callable[..., bytes]


def distance(a: int, b: int) -> int:
    return (a ^ b).bit_count()


def test_item_id_is_half_a_sha256() -> None:
    assert item_id(b"abc") == hashlib.sha256(b"abc").digest()[:16]
    assert item_id(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223"


def test_pixel_hash_sees_pixels_and_shape_only(picture: Picture, encode: Encode) -> None:
    rgb = picture(40, 30)
    assert pixel_hash(decode(encode(rgb, "png"))) == pixel_hash(decode(encode(rgb, "webp", lossless=True)))
    assert pixel_hash(rgb[::-1]) == pixel_hash(rgb[::-1].copy()) != pixel_hash(rgb)
    flat = np.zeros((4, 6, 3), np.uint8)
    assert pixel_hash(flat) != pixel_hash(flat.reshape(6, 4, 3))
    changed = rgb.copy()
    changed[0, 0, 0] ^= 1
    assert pixel_hash(changed) != pixel_hash(rgb)


def test_perceptual_hash_is_stable_under_scaling_and_recompression(picture: Picture, encode: Encode) -> None:
    for seed in range(8):
        rgb = picture(320, 240, seed)
        original = perceptual_hash(rgb)
        assert 0 <= original < 2**64
        smaller = np.asarray(Image.fromarray(rgb).resize((111, 83), Image.Resampling.BICUBIC))
        assert distance(original, perceptual_hash(smaller)) <= 4
        assert distance(original, perceptual_hash(decode(encode(rgb, quality=30)))) <= 4


def test_perceptual_hash_tells_pictures_apart(picture: Picture) -> None:
    hashes = [perceptual_hash(picture(320, 240, seed)) for seed in range(12)]
    assert min(distance(a, b) for i, a in enumerate(hashes) for b in hashes[:i]) > 10


def test_perceptual_hash_of_known_pictures() -> None:
    ramp = np.repeat(np.arange(0, 90, 10, dtype=np.uint8)[None, :, None], 8, axis=0).repeat(3, axis=2)
    assert perceptual_hash(ramp) == 2**64 - 1
    assert perceptual_hash(ramp[:, ::-1]) == 0
    assert perceptual_hash(np.zeros((1, 1, 3), np.uint8)) == 0
    step = np.zeros((8, 9, 3), np.uint8)
    step[0, 1] = 255
    assert perceptual_hash(step) == 1 << 63
