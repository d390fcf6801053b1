"""What the libraries that decode and resize images make of them here: a store's views are only as it holds
them where the same bytes give the same pixels."""

import hashlib
from base64 import b64decode
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from distill.data.batches import render
from distill.data.views import Augmentation, draw_view
from transferset.errors import UsageError
from transferset.images import decode
from transferset.models.preprocessing import Preprocessing

_DIGITS = 16
_VIEWS = 8
# Noise of a few pixels: 4:2:0 with odd sides; CMYK, which Pillow decodes; transparency; lossy WebP.
_IMAGES = {
    "jpeg": (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdB"
        "RkxOUlNSMj5aYVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09P"
        "T09PT09PT09PT09PT0//wAARCAAjACsDASIAAhEBAxEB/8QAGQABAAMBAQAAAAAAAAAAAAAABQAEBgID/8QALhAAAQMDAgUC"
        "BAcAAAAAAAAAAQACEQMEIQUSEzFBUWFx4RQjJPEzQlKB0dLw/8QAGQEAAwEBAQAAAAAAAAAAAAAAAwQFBwEG/8QAKBEAAQQA"
        "AwcFAQAAAAAAAAAAAQACAwQFESEGEiIxNIGREzNBYnGx/9oADAMBAAIRAxEAPwCtb0SHglifoVBwgMAoNzr5gk29IAZJB914"
        "/HXEiG0wfH3RcUIs5ZAjsq80Lq7SN5vdwH9VrUXbiTjrOEC5pFyGkDn3xzS268qUiOG0sHkfyi7hrGVPnEg9uaPWlELMsj4U"
        "iphz2ymQvZr9gtfobmmk0FwJ9Fod7vyvcB0ErE6dc39Nn0tKm9o/V90mzUdcDYFpax5I/so9mw4vJGXcqg/DXvOYc3yFn617"
        "V2loEZ5DKNFaobkOIcRPqnvhQ50dZBPXC6GmgEOAgp6eCRupSUt+G0Q0hX7BjTZ7nHaS3p/vCzOsM+oIaQYzCUr3TqDdgJAx"
        "7oK7qmtUBJIEz6yiQF1rgajjDzE0SfCa0lx4cBue/Ypc1DOWtnzJR2kMcaIAEZ6mZSZpEGN8eNi670IjuvGqEdoK0PA4clWa"
        "BJHb3V1wHA/YqKJy7yXm8P1kbms3qf44HQlDPw4+MqKJLZ/qCtGu9I38Wq0NjRRZDQJASXMAyeSiiTxMkTErIrfvOX//2Q=="
    ),
    "cmyk jpeg": (
        "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwAQCwwODAoQDg0OEhEQExgoGhgWFhgxIyUdKDozPTw5Mzg3QEhcTkBEV0U3OFBtUVdf"
        "YmdoZz5NcXlwZHhcZWdj/8AAFAgADQARBEMRAE0RAFkRAEsRAP/EABkAAAMBAQEAAAAAAAAAAAAAAAIEBQYDB//EADYQAAED"
        "AwECCQsFAAAAAAAAAAECAwQABREhBhUSExQxQVFhkqIWMlJUgZGTobHR0iJTVXGC/9oADgRDAE0AWQBLAAA/AJL024JUnibN"
        "LZJ5gsKVnwitM9PjKa4L13gpQrQnhJGnV51FeolrvLyX95MNqR0hxKh9aj29C473KuRPPIbOTjOB7caUtIlSWVB120vsuqPn"
        "q4SQT/WPl21k4uzlobcynaSGsA5wCnI8dNR4LawVRpraykaKACgPcaG4hybPNyTFcaaxjGpSP9YFB5RSfVWu6ab3FZf5yN8U"
        "flR7vk+vJ+Efyrnxzf7a++PtXodxQYpWW1aAcx5qPYuK1c7E81MTxiXFYVnsOlBdNn7fa4bqY7I/UnOVan3+yrF4eXBuLNvZ"
        "OI74IWkaZwaUiW9i8QW5EpAU4knBI1GtN3XZ62wLWEsMYK1jKuk57eqo+xMpZL6STwVEHGenGn1qlc0oZtIiNJKW9Dz9Jx96"
        "6bhjdfhqNutv0vlWu489VZHkyPSc71f/2Q=="
    ),
    "png": (
        "iVBORw0KGgoAAAANSUhEUgAAAAkAAAAHCAYAAADam2dgAAAAtElEQVR42mO0Sv/JwHeTjeXTEQaW668cWXgeaLGoXX3N8neB"
        "I8vrZ84s926rsbA4PWZTfcF2k+Xt3wyW38v5WRjZhVlEfjGx8P5jYfmnf49FSlmNhfEXl40XAwMDCz7MwsDAoEodRSW/dVS5"
        "dX+ymJj8YPn+9B2LwkU+FmXDHyyHChxY9s52Y7n+5TcLi+jvb6oSP16yPF55j8XujwKL+lcGFi42GRaOl7osfLy/WIxE37AC"
        "AKQdOWxGXb4FAAAAAElFTkSuQmCC"
    ),
    "webp": (
        "UklGRrQAAABXRUJQVlA4IKgAAADwBQCdASoXABEAPu1qq1EppaOiqAqpMB2JbACsOUFTHhaGhefRUG6ZgFfiUqNAIa5M49Lu"
        "rWBZIAD+lBtGHGJfpoE9eQ+8UTrujIW++/3m6D33mwR9SfLk8+cB+fJnTA/6rPJ7Zch5yfdJTGfPNolke3yxnRPY9MH0IYoW"
        "NJzq84yEbODIrVe0iJDmerauEg4FFwByJREkcH+O51ZZGyVkWI/DgEJHgAA="
    ),
}
_SHORT_SIDES = (None, 17, 8, 4)  # of the 43 x 35 JPEG: decoded whole, at a half, a quarter, an eighth


def decoder_pixels(augment: Augmentation, preprocessing: Preprocessing) -> dict[str, str]:
    """Digests of pixels, by what gives them: the decoders, on images that never change, and what renders
    `views` for a model, on a pattern that no decoder has seen.

    Pixels and not versions: most new versions of a library give the same ones.
    """
    found = {
        name: _digest(decode(b64decode(text), short_side=side) for side in _SHORT_SIDES)
        for name, text in _IMAGES.items()
    }
    views = (draw_view(augment, 0, bytes(range(16)), number) for number in range(_VIEWS))
    return {**found, "views": _digest(render(_pattern(), view, preprocessing) for view in views)}


def decoder_versions() -> dict[str, str]:
    """The libraries that make pixels of bytes, for people."""
    import PIL
    import simplejpeg
    import torch

    return {
        "pillow": str(PIL.__version__),
        "simplejpeg": str(getattr(simplejpeg, "__version__", "unknown")),
        "torch": str(torch.__version__),
    }


def require_same_pixels(store: Path, config: Mapping[str, Any], here: Mapping[str, str]) -> None:
    """UsageError, with the difference, if images do not look `here` as they did where the store with this
    config.json was labelled."""
    decoder = config.get("decoder") or {}
    there = decoder.get("pixels")
    if not there:
        raise UsageError(
            f"{store} was started by an earlier version, which did not record what images looked like",
            hint="label into another directory",
        )
    other = [name for name in here if there.get(name) != here[name]]
    if other:
        versions, now = decoder.get("versions") or {}, decoder_versions()
        changed = ", ".join(
            f"{name} {versions.get(name)} there, {version} here"
            for name, version in now.items()
            if versions.get(name) != version
        )
        raise UsageError(
            f"{store} was labelled on a system where images look different: other pixels for"
            f" {', '.join(other)}"
            f" ({changed or 'the same libraries, built otherwise'})",
            hint="install the versions that labelled it, or label into another directory",
        )


def _pattern() -> np.ndarray:
    """(60, 80, 3) uint8 with edges and slopes in it."""
    rows, columns, channels = np.indices((60, 80, 3))
    pattern: np.ndarray = (7 * rows + 11 * columns + 50 * channels + rows * columns) % 256
    return pattern.astype(np.uint8)


def _digest(images: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.shape}".encode())
        digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()[:_DIGITS]
