import io
import random
import struct
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from transferset.images import MAX_PIXELS, Header, ImageError, decode, read_header

Picture = Callable[..., np.ndarray]
Encode = Callable[..., bytes]
FORMATS = ("jpeg", "png", "webp")


def reason(data: bytes, **options: int) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, **options)
    return caught.value.reason


def close(a: np.ndarray, b: np.ndarray, tolerance: float = 6) -> bool:
    return a.shape == b.shape and float(np.abs(a.astype(float) - b).mean()) < tolerance


@pytest.mark.parametrize("format", FORMATS)
def test_decodes_each_format_to_its_pixels(picture: Picture, encode: Encode, format: str) -> None:
    rgb = picture(61, 47)
    data = encode(rgb, format)
    header = read_header(data)
    assert (header.format, header.width, header.height) == (format, 61, 47)
    pixels = decode(data)
    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous and pixels.flags.writeable
    assert close(pixels, rgb)
    if format == "png":
        assert np.array_equal(pixels, rgb)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_shown_as_pillow_shows_it(
    picture: Picture, encode: Encode, format: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(picture(60, 40), format, exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    pixels = decode(data)
    assert close(pixels, expected, 2)
    assert (read_header(data).height, read_header(data).width) == pixels.shape[:2]


def test_png_orientation_after_the_pixels_counts(picture: Picture, encode: Encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = encode(picture(60, 40), "png")
    body = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
    assert decode(plain[:-12] + chunk + plain[-12:]).shape == (60, 40, 3)


@pytest.mark.parametrize("short_side", [16, 50, 96, 100, 150, 151, 224])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_short_side_reduces_a_jpeg_and_never_below(
    picture: Picture, encode: Encode, short_side: int, mode: str
) -> None:
    rgb = picture(401, 300)
    data = encode(Image.fromarray(rgb).convert(mode))
    full, reduced = decode(data), decode(data, short_side=short_side)
    assert full.shape == (300, 401, 3)
    if short_side <= 150:
        assert short_side <= min(reduced.shape[:2]) <= 150
    else:
        assert reduced.shape == full.shape
    height, width = reduced.shape[:2]
    expected = np.asarray(Image.fromarray(full).resize((width, height), Image.Resampling.BOX))
    assert close(reduced, expected)


def test_short_side_with_orientation_keeps_the_short_side(picture: Picture, encode: Encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    reduced = decode(encode(picture(400, 200), exif=exif), short_side=50)
    assert reduced.shape[1] >= 50 and reduced.shape[0] > reduced.shape[1]


def test_short_side_leaves_png_and_webp_alone(picture: Picture, encode: Encode) -> None:
    for format in ("png", "webp"):
        assert decode(encode(picture(200, 120), format), short_side=20).shape == (120, 200, 3)


def test_progressive_grey_and_cmyk_jpegs(picture: Picture, encode: Encode) -> None:
    rgb = picture(64, 48)
    assert close(decode(encode(rgb, progressive=True)), rgb)
    grey = decode(encode(Image.fromarray(rgb).convert("L")))
    assert np.array_equal(grey[..., 0], grey[..., 2]) and grey.shape == rgb.shape
    assert close(decode(encode(Image.fromarray(rgb).convert("CMYK"))), rgb)


def test_sixteen_bit_grey_keeps_its_brightness(encode: Encode) -> None:
    ramp = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (8, 1))
    pixels = decode(encode(Image.fromarray(ramp), "png"))
    assert np.array_equal(pixels[..., 1], (ramp >> 8).astype(np.uint8))


def test_sixteen_bit_rgb_png(encode: Encode) -> None:
    rows = b"".join(b"\0" + struct.pack(">HHH", 65535, 32768, 0) * 4 for _ in range(3))
    header = struct.pack(">IIBBBBB", 4, 3, 16, 2, 0, 0, 0)
    pieces = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in pieces
    )
    pixels = decode(data)
    assert pixels.shape == (3, 4, 3) and pixels[0, 0].tolist() == [255, 128, 0]


def test_palette_with_and_without_transparency(picture: Picture, encode: Encode) -> None:
    rgb = picture(32, 32)
    palette = Image.fromarray(rgb).quantize(64)
    assert np.array_equal(decode(encode(palette, "png")), np.asarray(palette.convert("RGB")))
    see_through = Image.new("P", (4, 4), 1)
    see_through.putpalette([255, 0, 0, 0, 255, 0])
    data = encode(see_through, "png", transparency=1)
    assert (decode(data) == 255).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_lies_over_white(encode: Encode, mode: str) -> None:
    image = Image.new(mode, (4, 4), (0,) * len(mode))
    image.putpixel((0, 0), (0,) * (len(mode) - 1) + (255,))
    pixels = decode(encode(image, "png"))
    assert pixels[0, 0].tolist() == [0, 0, 0] and pixels[1, 1].tolist() == [255, 255, 255]


def test_alpha_webp_lies_over_white(encode: Encode) -> None:
    assert (decode(encode(Image.new("RGBA", (8, 8), (10, 20, 30, 0)), "webp", lossless=True)) == 255).all()


@pytest.mark.parametrize("format", ["webp", "png"])
def test_an_animation_gives_its_first_frame(encode: Encode, format: str) -> None:
    frames = [Image.new("RGB", (20, 10), color) for color in ("red", "lime", "blue")]
    data = encode(frames[0], format, save_all=True, append_images=frames[1:], duration=40)
    pixels = decode(data)
    assert pixels.shape == (10, 20, 3)
    assert pixels[5, 5, 0] > 200 and pixels[5, 5, 1] < 60


def test_one_bit_and_tiny_images(encode: Encode) -> None:
    assert decode(encode(Image.new("1", (3, 2), 1), "png")).tolist() == [[[255] * 3] * 3] * 2
    assert decode(encode(Image.new("RGB", (1, 1))), short_side=224).shape == (1, 1, 3)


@pytest.mark.parametrize("format", FORMATS)
def test_every_truncation_is_an_error(picture: Picture, encode: Encode, format: str) -> None:
    data = encode(picture(64, 48), format)
    ends = sorted({0, 1, 2, 3, 8, 20, 29, 40, len(data) // 2, len(data) * 3 // 4, len(data) - 30})
    for end in ends:
        text = reason(data[:end])
        assert ("empty" if end == 0 else "truncated" if end > len(data) // 2 else "") in text


def test_a_jpeg_without_its_last_byte_is_truncated(picture: Picture, encode: Encode) -> None:
    assert "truncated" in reason(encode(picture(64, 48))[:-1])


def test_bytes_after_the_end_are_ignored(picture: Picture, encode: Encode) -> None:
    for format in FORMATS:
        assert decode(encode(picture(64, 48), format) + b"\0trailing").shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "empty"),
        (b"\0" * 500, "not an image"),
        (b"<html><body>404 Not Found</body></html>", "not an image"),
        (b"\xff\xd8\xff", "truncated"),
        (b"\xff\xd8\xff\xd9" + b"\0" * 50, "frame header"),
        (b'<?xml version="1.0"?>\n<svg xmlns="x"/>', "unsupported format svg"),
        (b"\0\0\0\x20ftypavif\0\0\0\0", "unsupported format avif"),
        (b"\0\0\0\x20ftypheic\0\0\0\0", "unsupported format heic"),
        (b"%PDF-1.7", "unsupported format pdf"),
    ],
)
def test_what_is_no_image_is_named(data: bytes, expected: str) -> None:
    assert expected in reason(data)
    with pytest.raises(ImageError, match=expected):
        read_header(data)


@pytest.mark.parametrize("format", ["gif", "bmp", "tiff", "ico"])
def test_other_formats_are_named(picture: Picture, encode: Encode, format: str) -> None:
    assert reason(encode(picture(32, 32), format)) == f"unsupported format {format}"


def test_gigantic_images_are_refused_on_their_header() -> None:
    header = struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", 0)
    start = time.perf_counter()
    assert reason(png) == f"too many pixels: {(2**31 - 1) ** 2} > {MAX_PIXELS}"
    assert time.perf_counter() - start < 0.1


def test_the_pixel_limit_is_exact_and_pillows_own_stays_silent(encode: Encode) -> None:
    data = encode(Image.new("L", (10_000, 9_500)), "png")  # above Pillow's warning, below ours
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_header(data) == Header("png", 10_000, 9_500)
        assert decode(data).shape == (9_500, 10_000, 3)
    small = encode(Image.new("L", (100, 90)), "png")
    assert decode(small, max_pixels=9000).shape == (90, 100, 3)
    assert reason(small, max_pixels=8999) == "too many pixels: 9000 > 8999"


def test_a_jpeg_that_lies_about_its_size_is_refused(picture: Picture, encode: Encode) -> None:
    data = bytearray(encode(picture(64, 48)))
    frame = data.index(b"\xff\xc0") + 5
    data[frame : frame + 4] = struct.pack(">HH", 60_000, 60_000)
    assert "too many pixels" in reason(bytes(data))
    data[frame : frame + 4] = struct.pack(">HH", 480, 640)
    assert "truncated" in reason(bytes(data))
    data[frame : frame + 4] = struct.pack(">HH", 0, 640)
    assert "no pixels" in reason(bytes(data))


def test_endless_fill_bytes_take_no_time() -> None:
    start = time.perf_counter()
    assert reason(b"\xff\xd8" + b"\xff" * 20_000_000) == "truncated"
    assert time.perf_counter() - start < 2


def test_a_jpeg_with_harmless_extra_bytes_is_read(picture: Picture, encode: Encode) -> None:
    data = encode(picture(64, 48))
    assert decode(data[:-2] + b"\0\0" + data[-2:]).shape == (48, 64, 3)


def test_damage_in_the_middle_is_an_error(picture: Picture, encode: Encode) -> None:
    data = bytearray(encode(picture(256, 256, 3), "png"))
    data[len(data) // 2] ^= 0xFF
    assert reason(bytes(data))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), format=st.sampled_from(FORMATS), short_side=st.sampled_from([None, 8]))
def test_mutated_images_give_an_array_or_an_image_error(
    picture: Picture, encode: Encode, seed: int, format: str, short_side: int | None
) -> None:
    rng = random.Random(seed)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    data = bytearray(encode(picture(40, 30), format, exif=exif))
    for _ in range(rng.choice([1, 3, 20])):
        where = rng.randrange(min(len(data), rng.choice([64, 512, len(data)])))
        if rng.random() < 0.7:
            data[where] = rng.randrange(256)
        else:
            del data[where : where + rng.randrange(1, 9)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pixels = decode(bytes(data), short_side=short_side, max_pixels=1_000_000)
        except ImageError as error:
            assert error.reason and "\n" not in error.reason and len(error.reason) < 300
        else:
            assert pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8


def test_threads_decode_the_same_pixels(picture: Picture, encode: Encode) -> None:
    images = [encode(picture(200, 150, seed), FORMATS[seed % 3]) for seed in range(12)]
    expected = [decode(data) for data in images]
    barrier = threading.Barrier(4)

    def work(number: int) -> bool:
        barrier.wait()
        return all(
            np.array_equal(decode(data), pixels) for data, pixels in zip(images, expected, strict=True)
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_real_photographs_decode_as_pillow_decodes_them(scenes20: Path) -> None:
    for path in sorted((scenes20 / "val").rglob("*.jpg"))[:40]:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            expected = np.asarray(image.convert("RGB"))
        assert close(decode(data), expected, 1.5), path
