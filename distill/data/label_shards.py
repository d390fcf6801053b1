"""The files of a store of teacher outputs: one a shard of the transfer set, a safetensors file with a JSON
beside it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from distill.data.compact_logits import Compact
from distill.data.samples import Samples
from transferset.errors import DataError
from transferset.grouping import groups_of
from transferset.open_files import map_file, raise_if_too_many_files
from transferset.writes import read_json, sha256_file, write_bytes, write_json

OUTPUTS = "outputs"
FEATURES = "features"
LABELLED = "labelled images"
_REPAIR = "run distill label again: it writes what is missing or damaged"
_KINDS = {"F16": np.float16, "F32": np.float32, "U8": np.uint8, "U16": np.uint16, "I32": np.int32}


@dataclass(frozen=True, eq=False)
class Unit:
    """Images that share a file of the store: those of one tar, or all labelled ones. `rows` (n,) int64: their
    places in the list of samples; `views`: how many of each the teacher looks at."""

    name: str
    rows: np.ndarray
    views: int

    def ids_sha256(self, samples: Samples) -> str:
        """SHA-256 over the item ids in their order: which images these are."""
        return hashlib.sha256(np.ascontiguousarray(samples.ids[self.rows]).tobytes()).hexdigest()


def units_of(samples: Samples, transfer: int, labelled: int, views: int) -> list[Unit]:
    """The first `transfer` samples by tar, in the order of the tars' first ones; then the `labelled` images
    that follow, which are in the list as often as `repeats` says and have as many times more views."""
    source = samples.source[:transfer]
    tars = groups_of(source)
    units = [
        Unit(samples.sources[source[rows[0]]].name, rows, views)
        for rows in sorted(tars, key=lambda rows: int(rows[0]))
    ]
    if labelled:
        rows = np.arange(transfer, transfer + labelled, dtype=np.int64)
        units.append(Unit(LABELLED, rows, views * int(samples.repeats[transfer])))
    return units


@dataclass(frozen=True)
class ShardFacts:
    """What the JSON beside a file says. `name`: the tar's; `unreadable`: why, by row."""

    name: str
    images: int
    views: int
    ids_sha256: str
    sha256: str
    unreadable: dict[str, str]


@dataclass(frozen=True, eq=False)
class LabelShard:
    """A file of the store, opened: tensors (n, views, …) mapped from disk, and which rows are `readable` (n,)
    bool; `features` (n, views, D) float16, mapped too, None: it has none."""

    facts: ShardFacts
    tensors: Mapping[str, np.ndarray]
    readable: np.ndarray
    features: np.ndarray | None = None


def paths(store: Path, number: int) -> tuple[Path, Path]:
    """The file with this number, and its JSON."""
    path = store / OUTPUTS / f"{number:06d}.safetensors"
    return path, path.with_suffix(".json")


def write_shard(store: Path, number: int, facts: ShardFacts, pieces: Sequence[Compact]) -> ShardFacts:
    """Write a shard out of pieces that follow each other (their `readable` among the tensors), its JSON last;
    the same outputs give the same bytes. Returns `facts` with the checksum."""
    path, beside = paths(store, number)
    joined = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    write_tensors(path, joined)
    written = replace(facts, sha256=sha256_file(path))
    write_json(beside, asdict(written))
    return written


def read_facts(store: Path, number: int) -> ShardFacts | None:
    """The JSON of a shard whose file has its checksum; None: it is missing or damaged."""
    path, beside = paths(store, number)
    if not path.is_file() or not beside.is_file():
        return None
    try:
        facts = ShardFacts(**read_json(beside))
    except (DataError, TypeError):
        return None
    return facts if sha256_file(path) == facts.sha256 else None


def open_shard(store: Path, number: int) -> LabelShard:
    """Open one; DataError where it is missing or damaged."""
    facts = read_facts(store, number)
    path, _ = paths(store, number)
    if facts is None:
        raise DataError(f"{path} is missing or damaged", hint=_REPAIR)
    tensors = map_tensors(path)
    readable = np.asarray(tensors.pop("readable")).astype(bool)
    return LabelShard(facts, tensors, readable, tensors.pop(FEATURES, None))


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Arrays as safetensors, atomically."""
    from safetensors.numpy import save

    write_bytes(path, save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}))


def map_tensors(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, mapped and not read; DataError where it is none.

    All are views of one mapping, which holds no open file, so that a store may have any number of shards. The
    format is eight bytes with the length of a JSON header, the header, and the bytes that it refers to.
    """
    try:
        data = np.frombuffer(map_file(path), np.uint8)
        start = 8 + int.from_bytes(data[:8].tobytes(), "little")
        header: dict[str, Any] = json.loads(data[8 : min(start, 1 << 20)].tobytes())
        header.pop("__metadata__", None)
        return {name: _tensor(data[start:], entry) for name, entry in header.items()}
    except OSError as error:
        raise_if_too_many_files(error)
        raise DataError(f"{path} cannot be read: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged: {error}", hint=_REPAIR) from error


def _tensor(data: np.ndarray, entry: dict[str, Any]) -> np.ndarray:
    begin, end = entry["data_offsets"]
    shape, kind = tuple(entry["shape"]), np.dtype(_KINDS[entry["dtype"]])
    if end - begin != int(np.prod(shape)) * kind.itemsize:
        raise ValueError("shape and size of a tensor differ")
    return data[begin:end].view(kind).reshape(shape)
