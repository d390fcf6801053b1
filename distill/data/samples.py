"""Samples of a run: where each image's bytes are, and decoded images that threads can ask for by index."""

import hashlib
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from transferset.copies import ID_BYTES, item_id
from transferset.errors import DataError
from transferset.images import MAX_PIXELS, ImageError, decode
from transferset.open_files import raise_if_too_many_files
from transferset.writes import read_json, write_json

_ATTEMPTS = 64
_RECORD_SECONDS = 5.0


class GoneError(DataError):
    """An image that was there when the command began: without it the run would become another one."""

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="put it back as it was and run the same command again")


@dataclass(frozen=True)
class Samples:
    """n images in a fixed order. `sources` are tars or image files; `source`, `offset`, `size` (n,) int64 say
    where the bytes of each image are. `ids` (n, 16) uint8 holds item ids, zeros where the id is only known
    after reading.

    An image that is `repeats` times in the list has the same ids in each place and `copy` 0 … repeats - 1,
    (n,) int64 both, so that its views differ from place to place (1 and 0 for an ordinary set).
    """

    sources: tuple[Path, ...]
    source: np.ndarray
    offset: np.ndarray
    size: np.ndarray
    ids: np.ndarray
    copy: np.ndarray
    repeats: np.ndarray

    def __len__(self) -> int:
        return len(self.source)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over what the samples are and how they are ordered, without the folders that they lie
        in."""
        digest = hashlib.sha256(b"samples 1\0")
        digest.update("\0".join(path.name for path in self.sources).encode("utf-8", "surrogateescape"))
        for column in (self.source, self.offset, self.size, self.copy, self.repeats):
            digest.update(np.ascontiguousarray(column, dtype="<i8").tobytes())
        digest.update(np.ascontiguousarray(self.ids).tobytes())
        return digest.hexdigest()

    def subset(self, rows: np.ndarray) -> "Samples":
        """Some of the samples, in the order of `rows`."""
        columns = {
            name: getattr(self, name)[rows] for name in ("source", "offset", "size", "ids", "copy", "repeats")
        }
        return Samples(self.sources, **columns)

    def name(self, index: int) -> str:
        """What people are told: the image file, or the tar with the offset of the image in it."""
        path = self.sources[self.source[index]]
        return f"{path}@{self.offset[index]}" if path.suffix == ".tar" else str(path)

    def read(self, index: int) -> bytes:
        """The encoded bytes of one image. Raises GoneError where a file that had been there is gone or became
        too short, DataError where it may not be read."""
        path, offset, size = self.sources[self.source[index]], int(self.offset[index]), int(self.size[index])
        try:
            with path.open("rb", buffering=0) as file:
                data = os.pread(file.fileno(), size, offset)
        except OSError as error:
            raise_if_too_many_files(error)
            reason = f"{path} cannot be read: {error.strerror or error}"
            never = not size or isinstance(error, PermissionError)
            raise (DataError(reason) if never else GoneError(reason)) from error
        if len(data) != size:
            raise GoneError(f"{path} ends within the {size} bytes at {offset}: it is cut off or was replaced")
        return data


def samples_of_files(paths: Sequence[Path]) -> Samples:
    """Image files as samples, in the order given; files that cannot be looked at get size 0 and fail when
    read."""
    sizes = [path.stat().st_size if path.exists() else 0 for path in paths]
    count = len(paths)
    return Samples(
        sources=tuple(paths),
        source=np.arange(count, dtype=np.int64),
        offset=np.zeros(count, dtype=np.int64),
        size=np.array(sizes, dtype=np.int64),
        ids=np.zeros((count, ID_BYTES), dtype=np.uint8),
        copy=np.zeros(count, dtype=np.int64),
        repeats=np.ones(count, dtype=np.int64),
    )


def join(first: Samples, second: Samples, repeat: int = 1) -> Samples:
    """`first` followed by `second`, the latter `repeat` times over."""
    return Samples(
        sources=first.sources + second.sources,
        source=np.concatenate([first.source, np.tile(second.source + len(first.sources), repeat)]),
        offset=np.concatenate([first.offset, np.tile(second.offset, repeat)]),
        size=np.concatenate([first.size, np.tile(second.size, repeat)]),
        ids=np.concatenate([first.ids, np.tile(second.ids, (repeat, 1))]),
        copy=np.concatenate([first.copy, np.repeat(np.arange(repeat, dtype=np.int64), len(second))]),
        repeats=np.concatenate([first.repeats, np.full(len(second) * repeat, repeat, dtype=np.int64)]),
    )


@dataclass(frozen=True)
class Decoded:
    """One readable image: its place in the list, item id, pixels (h, w, 3) uint8."""

    index: int
    item_id: bytes
    rgb: np.ndarray


class ImageReader:
    """Decoded images of `samples` by index, from any number of threads; the first `cache_bytes` of pixels are
    kept.

    `decode_size`: short side to which a large JPEG may be reduced while it is decoded (see
    `transferset.images`). A sample that is damaged, or whose bytes are not those that its id names, is
    dropped: **its place is taken by another readable one**, which only the place decides, so that no position
    shifts whatever is found when; neighbours are often damaged together, and do not all get the same one.
    What was dropped, and why, is in `dropped`, and in the JSON file `record` if one is given: a few seconds
    later at most while more is dropped, and after `flush`, which belongs before every checkpoint. A file that
    is gone meanwhile is a GoneError, and so is any unreadable sample if `checked`: all could be read before.
    """

    def __init__(
        self,
        samples: Samples,
        decode_size: int | None,
        *,
        cache_bytes: int = 0,
        max_pixels: int = MAX_PIXELS,
        record: Path | None = None,
        checked: bool = False,
    ) -> None:
        self.samples = samples
        self.checked = checked
        self.decode_size = decode_size
        self.max_pixels = max_pixels
        self.dropped: dict[str, str] = {}
        self._bad: set[int] = set()
        self._room = cache_bytes
        self._cache: dict[int, Decoded] = {}
        self._lock = threading.Lock()
        self._record = record
        self._recording = threading.Lock()
        self._record_due = 0.0
        if record is not None and record.exists():
            self.dropped.update(read_json(record))
        self._recorded = len(self.dropped)

    def image(self, index: int) -> Decoded:
        """The image at `index`, or the one that takes its place. DataError if no sample of the list is
        readable."""
        for place in self._places(index):
            decoded = self.attempt(place)
            if decoded is not None:
                return decoded
        name, reason = next(iter(self.dropped.items()), ("nothing", "no samples"))
        raise DataError(f"none of the {len(self.samples)} images can be read; the first: {name}: {reason}")

    def _places(self, index: int) -> Iterator[int]:
        """`index`, then those that may take its place: a few from all over the list, then all in order."""
        yield index
        count = len(self.samples)
        for attempt in range(_ATTEMPTS):
            key = hashlib.blake2b(f"{index} {attempt}".encode(), digest_size=8).digest()
            yield int.from_bytes(key) % count
        yield from ((index + step) % count for step in range(1, count))

    def attempt(self, index: int) -> Decoded | None:
        """The image at `index` and no other; None where it cannot be read, `dropped` saying why."""
        if index in self._bad:
            return None
        try:
            return self._cache.get(index) or self._load(index)
        except GoneError:
            raise
        except DataError as error:
            reason = error.reason if isinstance(error, ImageError) else error.message
            if self.checked:
                name = self.samples.name(index)
                raise GoneError(f"{name} could be read before and cannot be read now: {reason}") from error
            self.leave_out({index: reason})
        return None

    def _load(self, index: int) -> Decoded:
        data = self.samples.read(index)
        identity, known = item_id(data), self.samples.ids[index]
        if known.any() and identity != known.tobytes():
            raise DataError(
                "the bytes are not those that the item id names: the shard was changed or damaged"
            )
        decoded = Decoded(
            index, identity, decode(data, short_side=self.decode_size, max_pixels=self.max_pixels)
        )
        with self._lock:
            if self._room >= decoded.rgb.nbytes and index not in self._cache:
                self._room -= decoded.rgb.nbytes
                self._cache[index] = decoded
        return decoded

    def leave_out(self, reasons: Mapping[int, str]) -> None:
        """Treat these samples as unreadable from now on, each for its reason."""
        with self._lock:
            self._bad.update(reasons)
            for index, reason in reasons.items():
                self.dropped.setdefault(self.samples.name(index), reason)
        if time.monotonic() >= self._record_due:
            self.flush()

    def flush(self) -> None:
        """Everything that was dropped is in the record. Nobody who reads waits for it."""
        with self._recording:
            self._record_due = time.monotonic() + _RECORD_SECONDS
            with self._lock:
                dropped = dict(self.dropped)
            if self._record is not None and len(dropped) > self._recorded:
                write_json(self._record, dropped)
                self._recorded = len(dropped)

    def subset(self, rows: np.ndarray) -> "ImageReader":
        """A reader of some of the samples that shares the images which are already decoded, and keeps no
        more."""
        part = ImageReader(
            self.samples.subset(rows), self.decode_size, max_pixels=self.max_pixels, checked=self.checked
        )
        for place, row in enumerate(rows.tolist()):
            if row in self._cache:
                part._cache[place] = replace(self._cache[row], index=place)
        return part

    def check(self, indices: Iterable[int]) -> list[int]:
        """Those of `indices` that can be read, tried now: for small labelled sets, where no place is ever
        taken (see `checked`)."""
        return [index for index in indices if self.attempt(index) is not None]
