"""views/: vectors of the views of images that an index was compared with; a cache that can always be made
again.

Files are named by the checksum of what they hold and never change. So processes need no lock: whoever writes
the same writes the same file, and a reader tells a damaged one by its name.
"""

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from curate.index.layout import VIEWS_CACHE
from transferset.console import say
from transferset.errors import DataError
from transferset.writes import TEMPORARY_PREFIX, remove, write_bytes

MOST_BYTES = 4_000_000_000
"""Of all files of an index's cache; those that were not used for the longest time leave."""
IMAGES_A_FILE = 256
SECONDS_A_FILE = 20.0
"""A file is written when it has so many images or has waited so long: a killed run loses no more."""
_SUFFIX = ".safetensors"
_IDS, _ROWS = "item_ids", "views"
_DIGITS = 32
_STALE_SECONDS = 3_600


class StoredViews:
    """Context manager over the views of one `state` (what embeds, and which views: 16 hex digits); leaving it
    writes what was added last, also when an error or Ctrl-C ends it.

    A folder that can't be written to, or a full disk, ends the storing (which is told once), not the work.
    Forgotten items are neither given out nor stored.

    Args:
        shape: (views, d) of every image.
        forgotten: the item ids that are forgotten as of now.
    """

    def __init__(
        self, index: Path, state: str, shape: tuple[int, int], forgotten: Callable[[], frozenset[bytes]]
    ) -> None:
        self.cache = Path(index) / VIEWS_CACHE
        self.folder = self.cache / state
        self.damaged = 0
        self._shape = shape
        self._forgotten = forgotten
        self._waiting: dict[bytes, np.ndarray] = {}
        self._since = 0.0
        self._is_off = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._write()

    def found(self, wanted: Collection[bytes]) -> Iterator[tuple[bytes, np.ndarray]]:
        """Item id and views (views, d) float16 of those of `wanted` that are stored, each once. Damaged files
        are removed and counted in `damaged`."""
        left = set(wanted) - self._forgotten()
        for path in stored_files(self.folder):
            if not left:
                return
            try:
                if left.isdisjoint(stored_ids(path)):
                    continue
                ids, rows = self._load(path)
            except OSError:  # another process has just removed it, or it may not be read
                continue
            except DataError:
                self.damaged += 1
                remove(path)
                continue
            with contextlib.suppress(OSError):
                os.utime(path)
            for item_id, row in zip(ids, rows, strict=True):
                if item_id in left:
                    left.remove(item_id)
                    yield item_id, row

    def add(self, item_id: bytes, views: np.ndarray) -> None:
        """Keep the views (views, d) float16 of an image."""
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting[item_id] = views
        if len(self._waiting) >= IMAGES_A_FILE or time.monotonic() - self._since >= SECONDS_A_FILE:
            self._write()

    def _load(self, path: Path) -> tuple[list[bytes], np.ndarray]:
        from safetensors.numpy import load

        data = path.read_bytes()
        if _name_of(data) != path.name:
            raise DataError(f"{path} is damaged: it does not have its checksum")
        tensors = load(data)
        ids, rows = tensors[_IDS], tensors[_ROWS]
        if ids.shape != (len(rows), 16) or rows.shape[1:] != self._shape or rows.dtype != np.float16:
            raise DataError(f"{path} holds something else: views {rows.shape} {rows.dtype}")
        return [one.tobytes() for one in ids], rows

    def _write(self) -> None:
        forgotten = self._forgotten()
        kept = {item_id: rows for item_id, rows in self._waiting.items() if item_id not in forgotten}
        self._waiting = {}
        if not kept or self._is_off:
            return
        data = _pack(kept)
        try:
            write_bytes(self.folder / _name_of(data), data)
            _trim(self.cache, MOST_BYTES)
        except OSError as error:
            self._is_off = True
            say(
                f"note: {self.cache} can't be written to ({error.strerror or error}), so views are embedded "
                "again each time"
            )


def _pack(rows: dict[bytes, np.ndarray]) -> bytes:
    from safetensors.numpy import save

    ids = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 16)
    return save({_IDS: ids.copy(), _ROWS: np.stack(list(rows.values()))})


def _name_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_DIGITS] + _SUFFIX


def stored_files(folder: Path) -> list[Path]:
    """The files of one state, or by the folder of the cache those of all, by name."""
    return sorted(path for path in folder.rglob(f"*{_SUFFIX}") if not path.name.startswith(TEMPORARY_PREFIX))


def stored_ids(path: Path) -> list[bytes]:
    """The item ids in a file, whose rows are not read. DataError: it shows damage."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            ids = file.get_tensor(_IDS)
    except SafetensorError as error:
        raise DataError(f"{path} is damaged: {error}") from error
    if ids.ndim != 2 or ids.shape[1] != 16 or ids.dtype != np.uint8:
        raise DataError(f"{path} is damaged: it has no item ids")
    return [one.tobytes() for one in ids]


def is_whole(path: Path) -> bool:
    """Whether a file has the checksum that names it. FileNotFoundError: it has just been removed."""
    return _name_of(path.read_bytes()) == path.name


def drop_views(index: Path, forgotten: frozenset[bytes]) -> None:
    """Remove the files that hold views of forgotten items; what else is in them is made again when it is
    needed."""
    for path in stored_files(Path(index) / VIEWS_CACHE):
        try:
            holds = not forgotten.isdisjoint(stored_ids(path))
        except FileNotFoundError:
            continue
        except DataError:
            holds = True
        if holds:
            path.unlink(missing_ok=True)


def _trim(cache: Path, most: int) -> None:
    """Remove the files used longest ago until `most` bytes are left, and what killed writers have left."""
    found: list[tuple[float, str, int, Path]] = []
    for path in cache.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            about = path.stat()
            if path.name.startswith(TEMPORARY_PREFIX):
                if time.time() - about.st_mtime > _STALE_SECONDS:
                    remove(path)
            elif path.suffix == _SUFFIX:
                found.append((about.st_mtime, path.name, about.st_size, path))
    total = sum(size for _, _, size, _ in found)
    for _, _, size, path in sorted(found):
        if total <= most:
            return
        path.unlink(missing_ok=True)
        total -= size
