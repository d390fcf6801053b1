"""Features of a frozen model for labelled images, computed once and kept on disk."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from distill.data.rendered import RenderedBatch, Rendering
from transferset.console import say
from transferset.copies import ID_BYTES
from transferset.models.runtime import FrozenModel
from transferset.progress import progress
from transferset.writes import sweep_temporaries, write_bytes

VIEWS = ("original", "flip")
_FLUSH_SECONDS = 20.0


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """Readable images of a list: their `places` (n,) in it, item `ids` (n, 16) uint8 and `features` (n,
    views, d) float32; `reasons`: what was not readable, by place, and why. `computed` images went through the
    model now, the others came from the disk."""

    places: np.ndarray
    ids: np.ndarray
    features: np.ndarray
    reasons: dict[int, str]
    computed: int


def compute_features(
    paths: Sequence[Path], model: FrozenModel, rendering: Rendering, store: "FeatureStore", what: str
) -> ImageFeatures:
    """Features of image files, taken from the store or computed and added to it.

    Batches are a function of the list alone, and a batch of which anything is missing is computed whole: a
    killed and resumed run computes what an undisturbed one does.
    """
    reasons: dict[int, str] = {}
    places, ids, computed = [], [], 0
    if not paths:
        return ImageFeatures(np.empty(0, np.int64), np.empty((0, ID_BYTES), np.uint8), store.get([]), {}, 0)
    try:
        with progress(f"features of {what}", len(paths), "images") as bar:
            for batch in rendering.batches(paths, store.known()):
                reasons.update(batch.reasons)
                readable = [row for row in range(len(batch)) if batch.start + row not in batch.reasons]
                if batch.pixels is not None:
                    store.add(batch.ids[readable], _run(model, batch, store.views)[readable])
                    computed += len(readable)
                places += [batch.start + row for row in readable]
                ids.append(batch.ids[readable])
                bar.advance(len(batch))
    finally:
        store.flush()
    every = np.concatenate(ids)
    return ImageFeatures(np.array(places, np.int64), every, store.get(every), reasons, computed)


def _run(model: FrozenModel, batch: RenderedBatch, views: tuple[str, ...]) -> np.ndarray:
    assert batch.pixels is not None
    shown = {"original": batch.pixels, "flip": batch.pixels[:, :, ::-1]}
    return np.stack([model(shown[view]) for view in views], axis=1)


class FeatureStore:
    """Rows (views, d) float32 by item id, in safetensors files of `directory` whose names begin with the
    key's first digits; a file of another key, or a damaged one, is not read."""

    def __init__(self, directory: Path, key: str, views: tuple[str, ...], dimension: int) -> None:
        self.directory = directory
        self.key = key
        self.views = views
        self._shape = (len(views), dimension)
        self._rows: dict[bytes, np.ndarray] = {}
        self._new: list[bytes] = []
        self._flushed = time.monotonic()
        directory.mkdir(parents=True, exist_ok=True)
        sweep_temporaries(directory)
        for path in self._files():
            self._read(path)

    def _files(self) -> list[Path]:
        return sorted(self.directory.glob(f"{self.key[:16]}-*.safetensors"))

    def _read(self, path: Path) -> None:
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors = load(path.read_bytes())
            ids, features = tensors["ids"], tensors["features"]
            if ids.dtype != np.uint8 or ids.shape != (len(features), ID_BYTES):
                raise ValueError(f"ids are {ids.dtype} {ids.shape}")
            if features.dtype != np.float32 or features.shape[1:] != self._shape:
                raise ValueError(f"features are {features.dtype} {features.shape}")
        except (SafetensorError, KeyError, ValueError) as error:
            say(f"{path} is damaged ({error}): its features are computed again")
            path.unlink(missing_ok=True)
            return
        self._rows.update(zip(map(bytes, ids), features))

    def known(self) -> Callable[[bytes], bool]:
        """Whether an id was in the store when this was called."""
        return frozenset(self._rows).__contains__

    def add(self, ids: np.ndarray, features: np.ndarray) -> None:
        """Add rows (n, views, d); an id that is there keeps its row. Written every twenty seconds and by
        `flush`."""
        for identity, row in zip(map(bytes, ids), features):
            if identity not in self._rows:
                self._rows[identity] = row
                self._new.append(identity)
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what was added since the last time."""
        from safetensors.numpy import save

        self._flushed = time.monotonic()
        if not self._new:
            return
        ids = np.frombuffer(b"".join(self._new), np.uint8).reshape(-1, ID_BYTES)
        features = np.ascontiguousarray(np.stack([self._rows[identity] for identity in self._new]))
        numbers = [int(path.stem.rpartition("-")[2]) for path in self._files()]
        path = self.directory / f"{self.key[:16]}-{max(numbers, default=-1) + 1:06d}.safetensors"
        write_bytes(path, save({"ids": ids, "features": features}, metadata={"key": self.key}))
        self._new.clear()

    def get(self, ids: Iterable[np.ndarray]) -> np.ndarray:
        """Rows (n, views, d) float32 of n ids (16,) that are in the store."""
        rows = [self._rows[identity] for identity in map(bytes, ids)]
        return np.stack(rows) if rows else np.empty((0, *self._shape), np.float32)


def features_key(backbone_fingerprint: str, model: FrozenModel, views: tuple[str, ...]) -> str:
    """What rows of a store have in common, as a hash: model, runtime, batch size and views."""
    info = {name: value for name, value in asdict(model.info).items() if name != "note"}
    parts = {"backbone": backbone_fingerprint, "batch_size": model.batch_size, "views": views, **info}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
