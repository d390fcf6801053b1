"""Images of folders, tars and lists, one after another and never all at once."""

import glob
import itertools
import os
import select
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BufferedReader, UnsupportedOperation
from pathlib import Path
from typing import cast

import numpy as np

from distill.data.rendered import WHOLE_AT_ONCE, blank, shown
from transferset.copies import item_id
from transferset.errors import DataError, UsageError
from transferset.images import IMAGE_SUFFIXES, MAX_PIXELS, ImageError
from transferset.models.preprocessing import Preprocessing
from transferset.open_files import raise_if_too_many_files
from transferset.parallel import ordered_map
from transferset.tars import TarReader, scan

STDIN = "-"
_PATIENCE = 0.1  # seconds without a line after which what has come is worked on


@dataclass(frozen=True)
class ImageRef:
    """Where an image is: a file, or `size` bytes at `offset` of a tar. `problem`: why there is none (a tar
    that is cut off, for instance). `name` is what people are told."""

    name: str
    path: Path
    offset: int | None = None
    size: int = 0
    problem: str | None = None

    def read(self) -> bytes:
        """The encoded bytes. Raises DataError or OSError."""
        if self.problem is not None:
            raise DataError(self.problem)
        if self.offset is None:
            try:
                mode = self.path.stat().st_mode
            except ValueError as error:  # no file can have such a name
                raise DataError(str(error)) from error
            if not stat.S_ISREG(mode):
                raise DataError("not a regular file")  # a pipe would be waited for
            return self.path.read_bytes()
        with TarReader(self.path) as tar:
            return tar.read(self.offset, self.size)


@dataclass(frozen=True, eq=False)
class StreamBatch:
    """Some images of a stream: `ids` are item ids (None: not read), `pixels` (k, size, size, 3) uint8, or k
    arrays (h, w, 3), belong to the readable ones in order, `reasons` says by place why the others are not
    readable."""

    images: tuple[ImageRef, ...]
    ids: tuple[bytes | None, ...]
    pixels: np.ndarray
    reasons: dict[int, str]


def list_images(given: Iterable[str]) -> Iterator[ImageRef | None]:
    """The images of folders (searched recursively, with the tars in them), tars, image files and globs, in
    the order given, each sorted; `-` reads such paths from stdin, a line each, and gives None as long as
    nothing comes.

    Nothing is opened before its turn. Raises UsageError for a path that does not exist, at once and not for
    those of stdin.
    """
    paths = [path for one in given for path in ([one] if one == STDIN else _expand(one))]
    if STDIN in paths and sys.stdin is None:
        raise UsageError("- reads paths from stdin, which is closed")
    return itertools.chain.from_iterable(map(_images_of, paths))


def _expand(given: str) -> list[str]:
    found = [given] if Path(given).exists() else sorted(glob.glob(given, recursive=True))  # noqa: PTH207
    if not found:
        raise UsageError(
            f"{given} does not exist", hint="give a folder, a tar, an image, a glob, or - for stdin"
        )
    return found


def _images_of(given: str) -> Iterator[ImageRef | None]:
    if given == STDIN:
        for line in _lines_of_stdin():
            if line is None:
                yield None
            elif name := os.fsdecode(line.rstrip(b"\r\n")):
                yield from _images_of(name if name != STDIN else f"./{STDIN}")
        return
    path = Path(given)
    if _is_directory(path):
        for directory, folders, files in os.walk(path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files, key=os.fsencode):
                if not name.startswith(".") and Path(name).suffix.lower() in (*IMAGE_SUFFIXES, ".tar"):
                    yield from _images_of(str(Path(directory, name)))
    elif path.suffix.lower() == ".tar":
        yield from _images_of_tar(path)
    else:
        yield ImageRef(given, path)


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that no file can have: told when it is read
        return False


def _lines_of_stdin() -> Iterator[bytes | None]:
    """Lines as they come; None whenever none has come for a moment."""
    stream, rest = cast(BufferedReader, sys.stdin.buffer), b""
    begun = False
    while True:
        if not _readable(stream):
            yield None
            continue
        data = stream.read1(1 << 16)
        if not begun and _holds_images(data):
            raise UsageError(
                "stdin holds an image or a tar, not paths",
                hint="- takes one path per line; give a tar or an image by its name",
            )
        begun = True
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
        if not data:
            yield rest
            return


def _holds_images(start: bytes) -> bool:
    """Whether a stream that starts so is a JPEG, PNG or WebP, or a tar, by its magic bytes."""
    webp = start.startswith(b"RIFF") and start[8:12] == b"WEBP"
    return webp or start.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n")) or start[257:262] == b"ustar"


def _readable(stream: BufferedReader) -> bool:
    """Whether a read would not wait, now or within a moment."""
    try:
        return bool(select.select([stream], [], [], _PATIENCE)[0])
    except UnsupportedOperation:  # no file
        return True


def _images_of_tar(path: Path) -> Iterator[ImageRef]:
    try:
        found = scan(path)
    except DataError as error:
        yield ImageRef(str(path), path, problem=error.message)
        return
    for member in found.members:
        if Path(member.name).suffix.lower() in IMAGE_SUFFIXES:
            yield ImageRef(f"{path}/{member.name}", path, member.offset, member.size)
    if found.error is not None:
        yield ImageRef(str(path), path, problem=found.error)


@dataclass(frozen=True)
class Streaming:
    """How a stream is rendered: `batch_size` images at a time, by `workers` threads (0: the caller's);
    `whole`: they are decoded only, in full, WHOLE_AT_ONCE at a time at most."""

    preprocessing: Preprocessing
    batch_size: int = 64
    workers: int = 1
    max_pixels: int = MAX_PIXELS
    whole: bool = False

    def batches(self, images: Iterable[ImageRef | None]) -> Iterator[StreamBatch]:
        """Read, decode and render images in their order. Where nothing comes (None), a batch is what has come
        so far, and empty ones follow."""
        window = self.workers + 1
        chunks = self._chunks(images, window)
        return ordered_map(self._batch, chunks, workers=max(1, self.workers), window=window)

    def _chunks(self, images: Iterable[ImageRef | None], window: int) -> Iterator[tuple[ImageRef, ...]]:
        """Images by the batch; when nothing comes, as many empty batches as push out those in flight."""
        at_once = min(self.batch_size, WHOLE_AT_ONCE) if self.whole else self.batch_size
        chunk: list[ImageRef] = []
        flying = False
        for image in images:
            if image is not None:
                chunk.append(image)
                flying = True
            if len(chunk) == at_once or (image is None and chunk):
                yield tuple(chunk)
                chunk = []
            if image is None and flying:
                yield from itertools.repeat((), window)
                flying = False
        if chunk:
            yield tuple(chunk)

    def _batch(self, images: tuple[ImageRef, ...]) -> StreamBatch:
        ids: list[bytes | None] = []
        pixels: list[np.ndarray] = []
        reasons: dict[int, str] = {}
        for place, image in enumerate(images):
            ids.append(None)
            try:
                data = image.read()
                ids[place] = item_id(data)
                pixels.append(shown(data, self.preprocessing, self.whole, self.max_pixels))
            except ImageError as error:
                reasons[place] = error.reason
            except DataError as error:
                reasons[place] = error.message
            except OSError as error:
                raise_if_too_many_files(error)
                reasons[place] = error.strerror or str(error)
        stacked = blank(len(pixels), self.preprocessing, self.whole)
        for row, one in enumerate(pixels):
            stacked[row] = one
        return StreamBatch(images, tuple(ids), stacked, reasons)
