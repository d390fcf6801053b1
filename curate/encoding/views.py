"""Views of an image: how copies of it usually look to an encoder.

An encoder sees a crop, a mirrored or a framed picture as another picture. So a copy is looked for near the
image itself and near its views: mirrored, grey, five crops, two frames, and most of that at half size.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
from PIL import Image

from curate.encoding.pipeline import PipelineOptions
from curate.encoding.vectors import unit_rows
from transferset.errors import DataError
from transferset.images import decode
from transferset.models.runtime import FrozenModel
from transferset.parallel import ordered_map

T = TypeVar("T")

COPY_VIEWS = 20
VIEWS_VERSION = 1
"""Goes up when a view or the order of views changes: stored vectors of them are no use then."""
_CROP = 0.7
_FRAME = 0.12
_BATCHES_A_GROUP = 4


def views(rgb: np.ndarray) -> list[np.ndarray]:
    """The COPY_VIEWS views of an image (h, w, 3) uint8, itself first."""
    half, crops = _half(rgb), _crops(rgb)
    return [
        rgb,
        rgb[:, ::-1],
        _grey(rgb),
        half,
        _grey(half),
        *crops,
        *(_half(crop) for crop in crops),
        *(_framed(rgb, tone) for tone in (0, 255)),
        *(_framed(half, tone) for tone in (0, 128, 255)),
    ]


def _crops(rgb: np.ndarray) -> list[np.ndarray]:
    """The middle and the corners."""
    height, width = rgb.shape[:2]
    tall, wide = math.ceil(_CROP * height), math.ceil(_CROP * width)
    down, right = height - tall, width - wide
    corners = [(0, 0), (0, right), (down, 0), (down, right)]
    places = [(down // 2, right // 2), *corners]
    return [rgb[top : top + tall, left : left + wide] for top, left in places]


def _half(rgb: np.ndarray) -> np.ndarray:
    size = max(1, rgb.shape[1] // 2), max(1, rgb.shape[0] // 2)
    return np.asarray(Image.fromarray(np.ascontiguousarray(rgb)).resize(size, Image.Resampling.BICUBIC))


def _grey(rgb: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(rgb).convert("L").convert("RGB"))


def _framed(rgb: np.ndarray, tone: int) -> np.ndarray:
    breadth = max(1, round(_FRAME * min(rgb.shape[:2])))
    return np.pad(rgb, ((breadth, breadth), (breadth, breadth), (0, 0)), constant_values=tone)


def embed_views(
    model: FrozenModel,
    images: Iterable[T],
    read: Callable[[T], bytes],
    options: PipelineOptions | None = None,
) -> Iterator[np.ndarray | None]:
    """For each image the unit vectors (COPY_VIEWS, d) float32 of its views, in order; None for one that can't
    be read or decoded. `read` gives an image's encoded bytes and is called from several threads."""
    chosen = options or PipelineOptions()
    side = math.ceil(model.preprocessing.resize_short_side / _CROP)

    def pictures(image: T) -> list[np.ndarray] | None:
        try:
            return views(decode(read(image), short_side=side, max_pixels=chosen.max_pixels))
        except (OSError, DataError):
            return None

    return embed_pictures(model, images, pictures, chosen)


def embed_pictures(
    model: FrozenModel,
    items: Iterable[T],
    pictures: Callable[[T], list[np.ndarray] | None],
    options: PipelineOptions | None = None,
) -> Iterator[np.ndarray | None]:
    """For each item the unit vectors (n, d) float32 of its `pictures`, each (h, w, 3) uint8; None where it
    has none. Pictures are made and rendered in threads, and encoded in batches of the model's size."""
    workers = (options or PipelineOptions()).threads

    def render(item: T) -> np.ndarray | None:
        found = pictures(item)
        return None if found is None else np.stack([model.preprocessing.render(one) for one in found])

    group: list[np.ndarray | None] = []
    for one in ordered_map(render, items, workers, 2 * workers):
        group.append(one)
        if sum(len(some) for some in group if some is not None) > _BATCHES_A_GROUP * model.batch_size:
            last = group.pop()
            yield from _encode(model, group)
            group = [last]
    yield from _encode(model, group)


def _encode(model: FrozenModel, group: list[np.ndarray | None]) -> list[np.ndarray | None]:
    """The vectors of each item's pictures, the pictures of all items packed into full batches."""
    present = [one for one in group if one is not None]
    if not present:
        return list(group)
    packed = np.concatenate(present)
    starts = range(0, len(packed), model.batch_size)
    features = np.concatenate([model(packed[start : start + model.batch_size]) for start in starts])
    vectors = iter(
        np.split(unit_rows(features, "of this index"), np.cumsum([len(one) for one in present])[:-1])
    )
    return [None if one is None else next(vectors) for one in group]
