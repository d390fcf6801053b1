"""From the items of parts to embeddings: read → hash → decode → render in threads, encode in batches.

While one batch is encoded the threads prepare the next, also those of the next part. Batches are cut within a
part, in the order of its items, from those that could be read; the last one is padded. So a part's embeddings
depend on the part and on the plan only, not on threads, timing or what was done before.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from curate.encoding.vectors import unit_rows
from transferset.copies import item_id, perceptual_hash
from transferset.cores import available_cores
from transferset.errors import DataError, TransfersetError
from transferset.images import MAX_PIXELS, Header, ImageError, decode, read_header
from transferset.models.preprocessing import Preprocessing
from transferset.models.runtime import FrozenModel
from transferset.parallel import ordered_map

T = TypeVar("T")
P = TypeVar("P")


@dataclass(frozen=True)
class PipelineOptions:
    """How a part is read.

    Attributes:
        workers: threads that read and decode; by default one a core.
        max_pixels: larger images are errors.
    """

    workers: int | None = None
    max_pixels: int = MAX_PIXELS

    @property
    def threads(self) -> int:
        """Threads that read and decode."""
        return self.workers or available_cores()


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


@dataclass(frozen=True)
class PartItems(Generic[P, T]):
    """What is to be encoded together: the items of `part`, taken lazily, and how to get an item's bytes."""

    part: P
    items: Iterable[T]
    read: Callable[[T], bytes]


@dataclass(frozen=True, slots=True)
class _End:
    """Stands behind the last item of a part, with the error that ended it early."""

    error: TransfersetError | None = None


def encode_items(
    model: FrozenModel,
    items: Iterable[T],
    read: Callable[[T], bytes],
    options: PipelineOptions | None = None,
) -> Generator[Encoded[T] | Unreadable[T], None, None]:
    """Read and encode the items of one part, in order.

    Args:
        model: the encoder's image tower on its runtime.
        items: whatever `read` understands; taken lazily.
        read: the encoded bytes of an item; called from several threads. Its OSError or DataError makes the
            item unreadable.
        options: threads and limits.

    Yields:
        for each item one Encoded or Unreadable, in the order of `items`. At most about five batches of
        images are in memory, however many items there are.

    Raises:
        NumericError: the encoder gave features that are not finite.
    """
    with contextlib.closing(encode_parts(model, [PartItems(None, items, read)], options)) as parts:
        for _, outcomes in parts:
            yield from outcomes


def encode_parts(
    model: FrozenModel, parts: Iterable[PartItems[P, T]], options: PipelineOptions | None = None
) -> Generator[tuple[P, Iterator[Encoded[T] | Unreadable[T]]], None, None]:
    """`encode_items` for one part after the other; the next one is read and decoded while the last batches of
    the present one are encoded and its rows are written.

    `parts` is taken lazily, at most about two batches ahead. Each iterator that comes out has to be used up
    before the next is asked for. An error in the items of a part comes out when its turn has come.
    """
    chosen = options or PipelineOptions()
    workers = chosen.threads

    def prepare_item(entry: tuple[PartItems[P, T], T] | _End) -> Prepared[T] | Unreadable[T] | _End:
        if isinstance(entry, _End):
            return entry
        part, item = entry
        return prepare(item, part.read, model.preprocessing, chosen.max_pixels)

    def encode_batch(
        batch: list[Prepared[T] | Unreadable[T] | _End],
    ) -> list[Encoded[T] | Unreadable[T] | _End]:
        return list(_encode(model, batch))

    started: deque[P] = deque()
    window = 2 * model.batch_size + workers
    prepared = ordered_map(prepare_item, _entries(parts, started), workers=workers, window=window)
    # A thread of its own for the encoder: this one cuts and hands out batches in the meantime.
    encoded = ordered_map(encode_batch, _batches(prepared, model.batch_size), workers=1, window=2)
    with contextlib.closing(prepared), contextlib.closing(encoded):
        outcomes = itertools.chain.from_iterable(encoded)
        for first in outcomes:  # starts the next part, if there is one
            yield started.popleft(), _until_end(itertools.chain([first], outcomes))


def _entries(
    parts: Iterable[PartItems[P, T]], started: deque[P]
) -> Iterator[tuple[PartItems[P, T], T] | _End]:
    for part in parts:
        started.append(part.part)
        try:
            for item in part.items:
                yield part, item
        except TransfersetError as error:
            yield _End(error)
        else:
            yield _End()


def _until_end(
    outcomes: Iterable[Encoded[T] | Unreadable[T] | _End],
) -> Iterator[Encoded[T] | Unreadable[T]]:
    """The outcomes of one part."""
    for outcome in outcomes:
        if isinstance(outcome, _End):
            if outcome.error is not None:
                raise outcome.error
            return
        yield outcome


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


def _batches(
    outcomes: Iterable[Prepared[T] | Unreadable[T] | _End], batch_size: int
) -> Iterator[list[Prepared[T] | Unreadable[T] | _End]]:
    """Cut after every `batch_size` prepared items, and at the end of a part; the unreadable ones between them
    keep their places."""
    batch: list[Prepared[T] | Unreadable[T] | _End] = []
    filled = 0
    for outcome in outcomes:
        batch.append(outcome)
        filled += isinstance(outcome, Prepared)
        if filled == batch_size or isinstance(outcome, _End):
            yield batch
            batch, filled = [], 0


def _encode(
    model: FrozenModel, batch: list[Prepared[T] | Unreadable[T] | _End]
) -> Iterator[Encoded[T] | Unreadable[T] | _End]:
    pixels = [outcome.pixels for outcome in batch if isinstance(outcome, Prepared)]
    rows = iter(unit_rows(model(np.stack(pixels)), "of this index") if pixels else ())
    for outcome in batch:
        if isinstance(outcome, Prepared):
            yield Encoded(outcome.item, outcome.item_id, outcome.header, outcome.perceptual_hash, next(rows))
        else:
            yield outcome


def _reason(error: OSError | DataError) -> str:
    if isinstance(error, DataError):
        return error.message
    return error.strerror or type(error).__name__
