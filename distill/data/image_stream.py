"""Images of folders, tars and lists, one after another and never all at once."""

import glob
import itertools
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill.data.rendered import WHOLE_AT_ONCE, blank, shown
from transferset.copies import item_id
from transferset.errors import DataError, UsageError
from transferset.images import IMAGE_SUFFIXES, MAX_PIXELS, ImageError
from transferset.models.preprocessing import Preprocessing
from transferset.parallel import ordered_map
from transferset.tars import TarReader, scan

STDIN = "-"


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


def list_images(given: Iterable[str]) -> Iterator[ImageRef]:
    """The images of folders (searched recursively, with the tars in them), tars, image files and globs, in
    the order given, each sorted; `-` reads such paths from stdin, a line each.

    Nothing is opened before its turn. Raises UsageError for a path that does not exist, at once and not for
    those of stdin.
    """
    paths = [path for one in given for path in ([one] if one == STDIN else _expand(one))]
    return itertools.chain.from_iterable(map(_images_of, paths))


def _expand(given: str) -> list[str]:
    found = [given] if Path(given).exists() else sorted(glob.glob(given, recursive=True))  # noqa: PTH207
    if not found:
        raise UsageError(
            f"{given} does not exist", hint="give a folder, a tar, an image, a glob, or - for stdin"
        )
    return found


def _images_of(given: str) -> Iterator[ImageRef]:
    if given == STDIN:
        lines = (os.fsdecode(line.rstrip(b"\r\n")) for line in sys.stdin.buffer)
        for line in lines:
            if line:
                yield from _images_of(line if line != STDIN else f"./{STDIN}")
        return
    path = Path(given)
    if path.is_dir():
        for directory, folders, files in os.walk(path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files, key=os.fsencode):
                if not name.startswith(".") and Path(name).suffix.lower() in (*IMAGE_SUFFIXES, ".tar"):
                    yield from _images_of(str(Path(directory, name)))
    elif path.suffix.lower() == ".tar":
        yield from _images_of_tar(path)
    else:
        yield ImageRef(given, path)


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

    def batches(self, images: Iterable[ImageRef]) -> Iterator[StreamBatch]:
        """Read, decode and render images in their order."""
        rest = iter(images)
        at_once = min(self.batch_size, WHOLE_AT_ONCE) if self.whole else self.batch_size
        chunks = iter(lambda: tuple(itertools.islice(rest, at_once)), ())
        return ordered_map(self._batch, chunks, workers=max(1, self.workers), window=self.workers + 1)

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
                reasons[place] = error.strerror or str(error)
        stacked = blank(len(pixels), self.preprocessing, self.whole)
        for row, one in enumerate(pixels):
            stacked[row] = one
        return StreamBatch(images, tuple(ids), stacked, reasons)
