"""Crops of a query image: what is small in it may fill a pool image.

A query that is searched by its crops too finds images that are like a part of it (retrieval by image crops is
how Vemulapalli et al., ICML 2024, picture their transfer sets' retrieval).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

import numpy as np

from curate.encoding.pipeline import PipelineOptions, Unreadable
from curate.encoding.vectors import unit_rows
from transferset.errors import DataError
from transferset.images import ImageError, decode
from transferset.models.preprocessing import Preprocessing
from transferset.models.runtime import FrozenModel
from transferset.parallel import ordered_map

T = TypeVar("T")

CROPS = 6
SHARE = 0.75
"""The sides of a crop are this share of the image's."""
_ITEMS_A_GROUP = 64


def crops(rgb: np.ndarray) -> list[np.ndarray]:
    """The centre and the four corners of an image (h, w, 3), each `SHARE` as wide and as high."""
    height, width = rgb.shape[:2]
    tall, wide = math.ceil(SHARE * height), math.ceil(SHARE * width)
    down, right = height - tall, width - wide
    corners = [(down // 2, right // 2), (0, 0), (0, right), (down, 0), (down, right)]
    return [rgb[top : top + tall, left : left + wide] for top, left in corners]


def encode_views(
    model: FrozenModel, items: Iterable[T], read: Callable[[T], bytes], options: PipelineOptions
) -> Iterator[tuple[T, np.ndarray] | Unreadable[T]]:
    """Embed images and their crops, in order.

    Yields for each item its vectors (CROPS, d) float32 of length 1, the whole image's first, which is the one
    that `encode_items` gives; or why it can't be read.
    """
    workers = options.threads

    def prepare(item: T) -> tuple[T, np.ndarray] | Unreadable[T]:
        return _prepare(item, read, model.preprocessing, options.max_pixels)

    outcomes = iter(ordered_map(prepare, items, workers=workers, window=2 * workers))
    while group := list(islice(outcomes, _ITEMS_A_GROUP)):
        pixels = [one[1] for one in group if not isinstance(one, Unreadable)]
        vectors = iter(_encode(model, np.concatenate(pixels)) if pixels else ())
        for one in group:
            yield one if isinstance(one, Unreadable) else (one[0], next(vectors))


def _prepare(
    item: T, read: Callable[[T], bytes], preprocessing: Preprocessing, max_pixels: int
) -> tuple[T, np.ndarray] | Unreadable[T]:
    """Render an image and its crops: (CROPS, size, size, 3) uint8."""
    short = preprocessing.resize_short_side
    try:
        data = read(item)
        whole = decode(data, short_side=short, max_pixels=max_pixels)
        larger = decode(data, short_side=math.ceil(short / SHARE), max_pixels=max_pixels)
    except ImageError as error:
        return Unreadable(item, error.reason)
    except DataError as error:
        return Unreadable(item, error.message)
    return item, np.stack([preprocessing.render(one) for one in (whole, *crops(larger))])


def _encode(model: FrozenModel, pixels: np.ndarray) -> np.ndarray:
    """(n * CROPS, size, size, 3) to (n, CROPS, d)."""
    starts = range(0, len(pixels), model.batch_size)
    features = [model(pixels[start : start + model.batch_size]) for start in starts]
    return unit_rows(np.concatenate(features), "of this index").reshape(-1, CROPS, model.dimension)
