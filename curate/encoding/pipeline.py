"""From a part's items to its embeddings: read → hash → decode → render in threads, encode in batches.

While one batch is encoded the threads prepare the next. Batches are cut within a part, in the order of its
items, from those that could be read; the last one is padded. So a part's embeddings depend on the part and
on the plan only, not on threads, timing or what was done before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from curate.encoding.vectors import unit_rows
from transferset.copies import item_id, perceptual_hash
from transferset.errors import DataError
from transferset.images import MAX_PIXELS, Header, ImageError, decode, read_header
from transferset.models.preprocessing import Preprocessing
from transferset.models.runtime import FrozenModel
from transferset.parallel import ordered_map

T = TypeVar("T")


@dataclass(frozen=True)
class PipelineOptions:
    """How a part is read.

    Attributes:
        workers: threads that read and decode; by default one a core.
        max_pixels: larger images are errors.
    """

    workers: int | None = None
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True, slots=True)
class Encoded(Generic[T]):
    """An item and what was found in its bytes; `embedding` is (d,) float32 of length 1."""

    item: T
    item_id: bytes
    header: Header
    perceptual_hash: int
    embedding: np.ndarray


@dataclass(frozen=True, slots=True)
class Unreadable(Generic[T]):
    """An item that could not be read or decoded, and why; the id where there were bytes."""

    item: T
    reason: str
    item_id: bytes | None = None


@dataclass(frozen=True, slots=True)
class Prepared(Generic[T]):
    """An item that is ready to be encoded; `pixels` is (size, size, 3) uint8."""

    item: T
    item_id: bytes
    header: Header
    perceptual_hash: int
    pixels: np.ndarray


def encode_items(
    model: FrozenModel,
    items: Iterable[T],
    read: Callable[[T], bytes],
    options: PipelineOptions | None = None,
) -> Iterator[Encoded[T] | Unreadable[T]]:
    """Read and encode the items of one part, in order.

    Args:
        model: the encoder's image tower on its runtime.
        items: whatever `read` understands; taken lazily.
        read: the encoded bytes of an item; called from several threads. Its OSError or DataError makes the
            item unreadable.
        options: threads and limits.

    Yields:
        for each item one Encoded or Unreadable, in the order of `items`. At most about four batches of
        images are in memory, however many items there are.

    Raises:
        NumericError: the encoder gave features that are not finite.
    """
    chosen = options or PipelineOptions()
    workers = chosen.workers or available_cores()

    def prepare_item(item: T) -> Prepared[T] | Unreadable[T]:
        return prepare(item, read, model.preprocessing, chosen.max_pixels)

    window = 2 * model.batch_size + workers
    outcomes = ordered_map(prepare_item, items, workers=workers, window=window)
    for batch in _batches(outcomes, model.batch_size):
        yield from _encode(model, batch)


def prepare(
    item: T, read: Callable[[T], bytes], preprocessing: Preprocessing, max_pixels: int = MAX_PIXELS
) -> Prepared[T] | Unreadable[T]:
    """Read, hash, decode and render one item: what the threads do."""
    try:
        data = read(item)
    except (OSError, DataError) as error:
        return Unreadable(item, _reason(error))
    identity = item_id(data)
    try:
        header = read_header(data, max_pixels)
        rgb = decode(data, short_side=preprocessing.resize_short_side, max_pixels=max_pixels)
    except ImageError as error:
        return Unreadable(item, error.reason, identity)
    return Prepared(item, identity, header, perceptual_hash(rgb), preprocessing.render(rgb))


def available_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _batches(
    outcomes: Iterable[Prepared[T] | Unreadable[T]], batch_size: int
) -> Iterator[list[Prepared[T] | Unreadable[T]]]:
    """Cut after every `batch_size` prepared items; the unreadable ones between them keep their places."""
    batch: list[Prepared[T] | Unreadable[T]] = []
    filled = 0
    for outcome in outcomes:
        batch.append(outcome)
        filled += isinstance(outcome, Prepared)
        if filled == batch_size:
            yield batch
            batch, filled = [], 0
    if batch:
        yield batch


def _encode(
    model: FrozenModel, batch: list[Prepared[T] | Unreadable[T]]
) -> Iterator[Encoded[T] | Unreadable[T]]:
    pixels = [outcome.pixels for outcome in batch if isinstance(outcome, Prepared)]
    rows = iter(unit_rows(model(np.stack(pixels)), "of this index") if pixels else ())
    for outcome in batch:
        if isinstance(outcome, Unreadable):
            yield outcome
        else:
            yield Encoded(outcome.item, outcome.item_id, outcome.header, outcome.perceptual_hash, next(rows))


def _reason(error: OSError | DataError) -> str:
    if isinstance(error, DataError):
        return error.message
    return error.strerror or type(error).__name__
