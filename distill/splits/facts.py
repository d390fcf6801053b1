"""One look at every image of a labelled set: item id, sketch, perceptual hashes; kept between commands."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transferset.copies import ID_BYTES, item_id, perceptual_hash
from transferset.errors import DataError
from transferset.images import MAX_PIXELS, ImageError, decode
from transferset.open_files import raise_if_too_many_files
from transferset.parallel import ordered_map
from transferset.progress import progress
from transferset.sketch import Sketch, sketch
from transferset.writes import sweep_temporaries_of, write_bytes

CACHE_VARIABLE = "TRANSFERSET_CACHE"
_SHORT_SIDE = 128
_VERSION = 1


@dataclass(frozen=True, eq=False)
class Fact:
    """What is known of one readable image: item id (16 bytes), `sketch`, and the perceptual hashes of the
    image and of its mirror image, (2,) uint64."""

    item_id: bytes
    sketch: Sketch
    hashes: np.ndarray


@dataclass(frozen=True, eq=False)
class Facts:
    """Facts of n images in their order, None for what is not readable; `reasons` says why, by place."""

    images: tuple[Fact | None, ...]
    reasons: dict[int, str]

    @property
    def readable(self) -> list[int]:
        """Places of the readable images."""
        return [place for place, fact in enumerate(self.images) if fact is not None]

    def id(self, place: int) -> bytes:
        """The item id of a readable image."""
        fact = self.images[place]
        assert fact is not None
        return fact.item_id


def look(root: Path, paths: Sequence[Path], max_pixels: int = MAX_PIXELS, workers: int = 1) -> Facts:
    """Read and decode every image, those apart that an earlier command has seen with the same size and time
    of change."""
    store = _Store(root, max_pixels)
    reasons: dict[int, str] = {}
    facts: list[Fact | None] = []

    def one(path: Path) -> Fact | str:
        try:
            return store.get(path) or store.add(path, lambda: _look(path, max_pixels))
        except OSError as error:
            raise_if_too_many_files(error)
            return error.strerror or str(error)
        except DataError as error:
            return error.reason if isinstance(error, ImageError) else error.message

    with progress("check splits", len(paths), "images") as bar:
        for place, found in enumerate(ordered_map(one, paths, max(1, workers), 4 * max(1, workers))):
            if isinstance(found, str):
                reasons[place] = found
            facts.append(None if isinstance(found, str) else found)
            bar.advance()
    store.keep()
    return Facts(tuple(facts), reasons)


def _look(path: Path, max_pixels: int) -> Fact:
    data = path.read_bytes()
    rgb = decode(data, short_side=_SHORT_SIDE, max_pixels=max_pixels)
    mirrored = np.ascontiguousarray(rgb[:, ::-1])
    hashes = np.array([perceptual_hash(rgb), perceptual_hash(mirrored)], np.uint64)
    return Fact(item_id(data), sketch(rgb), hashes)


def cache_folder() -> Path:
    """Where facts are kept: $TRANSFERSET_CACHE, else transferset in the user's cache folder."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "transferset"


class _Store:
    """Facts of the images below `root` on disk. A file that is damaged, or cannot be written, costs time and
    nothing else."""

    def __init__(self, root: Path, max_pixels: int) -> None:
        name = hashlib.sha256(os.fsencode(root.absolute()) + b" %d" % max_pixels).hexdigest()[:24]
        self.path = cache_folder() / "splits" / f"{name}-{_VERSION}.safetensors"
        self.rows: dict[bytes, tuple[tuple[int, int], Fact]] = {}
        self.new: dict[bytes, tuple[tuple[int, int], Fact]] = {}
        if self.path.is_file():
            self._read()

    def _read(self) -> None:
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors = load(self.path.read_bytes())
            names = tensors["names"].tobytes().split(b"\0")
            ends = np.cumsum(tensors["shapes"].prod(axis=1))
            rows = {}
            for row, (name, end) in enumerate(zip(names, ends.tolist(), strict=True)):
                height, width = tensors["shapes"][row].tolist()
                grey = tensors["greys"][end - height * width : end].reshape(height, width)
                fact = Fact(
                    tensors["ids"][row].tobytes(), Sketch(grey.astype(np.float32)), tensors["hashes"][row]
                )
                size, changed = tensors["stats"][row].tolist()
                rows[name] = ((size, changed), fact)
            self.rows = rows
        except (SafetensorError, OSError, KeyError, ValueError, IndexError):
            self.rows = {}

    def get(self, path: Path) -> Fact | None:
        """What is known of a file that has not changed since."""
        known = self.rows.get(os.fsencode(path.absolute()))
        if known is None:
            return None
        now = path.stat()
        return known[1] if known[0] == (now.st_size, now.st_mtime_ns) else None

    def add(self, path: Path, found: Callable[[], Fact]) -> Fact:
        """What is found of a file now, for `keep`, as of the size and time that it had before."""
        before = path.stat()
        fact = found()
        self.new[os.fsencode(path.absolute())] = (before.st_size, before.st_mtime_ns), fact
        return fact

    def keep(self) -> None:
        """Write what was found, if anything is new."""
        if not self.new:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            sweep_temporaries_of(self.path)
            write_bytes(self.path, _packed(self.rows | self.new))
        except OSError:
            return


def _packed(rows: dict[bytes, tuple[tuple[int, int], Fact]]) -> bytes:
    from safetensors.numpy import save

    facts = [fact for _, fact in rows.values()]
    greys = [fact.sketch.grey.astype(np.uint8) for fact in facts]
    tensors: dict[str, np.ndarray] = {
        "names": np.frombuffer(b"\0".join(rows), np.uint8),
        "stats": np.array([stat for stat, _ in rows.values()], np.int64),
        "ids": np.frombuffer(b"".join(fact.item_id for fact in facts), np.uint8).reshape(-1, ID_BYTES),
        "hashes": np.stack([fact.hashes for fact in facts]),
        "shapes": np.array([grey.shape for grey in greys], np.int64),
        "greys": np.concatenate([grey.ravel() for grey in greys]),
    }
    return save(tensors)
