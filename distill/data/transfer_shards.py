"""Opening of `--shards`: transfer sets of `curate retrieve`, and tars that anyone's webdataset wrote."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.data.samples import Samples
from transferset.copies import ID_BYTES
from transferset.errors import DataError, UsageError
from transferset.tars import Member, Sample, group_samples, scan

if TYPE_CHECKING:
    import pyarrow as pa

_IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "img", "image")
_COLUMNS = ["item_id", "shard", "offset", "size"]
_BYTES_ID = "bytes_id"
_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class TransferShards:
    """The images of a transfer set in a fixed order, and what was left out of it: (where, why)."""

    samples: Samples
    dropped: tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class _Part:
    """Images of a transfer set or of a tar, in columns as those of Samples: `source` says which of `paths`
    each is in. The paths are in the order of their first images, and none is without."""

    paths: Sequence[Path]
    source: np.ndarray
    offset: np.ndarray
    size: np.ndarray
    ids: np.ndarray


def open_transfer_shards(paths: Sequence[str | Path]) -> TransferShards:
    """Open `--shards PATH…`: each a transfer set's root, a folder of tars (searched recursively), a tar, or a
    glob.

    A root is told by its `samples.parquet`, which gives every image's place and item id. Other tars are
    scanned; each of their samples must have a member that is an image by its extension (`.cls`, `.json`, …
    are not used). The order is that of the paths given, then sorted tars, then the order within. A tar that
    is named twice counts once.

    Raises UsageError where a path holds no tar, DataError where shards are missing or nothing at all is left.
    """
    parts: list[_Part] = []
    dropped: list[tuple[str, str]] = []
    tars: dict[Path, None] = {}
    for path in (found for given in paths for found in expand(given)):
        if (path / "samples.parquet").is_file():
            parts.append(_read_transfer_set(path, dropped))
        else:
            tars.update(dict.fromkeys(_tars(path)))
    listed = {path.resolve() for part in parts for path in part.paths} if tars else set()
    parts += [_scan_tar(tar, dropped) for tar in tars if tar.resolve() not in listed]
    if not any(part.paths for part in parts):
        reasons = "; ".join(f"{where}: {why}" for where, why in dropped[:3])
        raise DataError(f"no image in {', '.join(map(str, paths))}" + (f" ({reasons})" if reasons else ""))
    return TransferShards(_joined(parts), tuple(dropped))


def expand(given: str | Path) -> list[Path]:
    """One `--shards` argument as existing paths, a glob's in sorted order."""
    path = Path(given)
    if path.exists():
        return [path]
    found = sorted(glob.glob(str(given), recursive=True))  # noqa: PTH207  (relative and absolute alike)
    if not found:
        raise UsageError(
            f"--shards {given} does not exist", hint="a transfer set, a folder of tars, a tar or a glob"
        )
    return [Path(name) for name in found]


def _tars(path: Path) -> list[Path]:
    if path.is_dir():
        tars = sorted(path.rglob("*.tar"))
        if not tars:
            raise UsageError(
                f"{path} has no samples.parquet and no .tar in it", hint="was `curate retrieve` finished?"
            )
        return tars
    return [path]


def _read_transfer_set(root: Path, dropped: list[tuple[str, str]]) -> _Part:
    """The rows of `root/samples.parquet`, in its order; samples beyond a shard's end are dropped."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table_path = root / "samples.parquet"
    try:
        # Where item ids are of URLs, the ids of the bytes stand in a column of their own.
        identity = _BYTES_ID if _BYTES_ID in pq.read_schema(table_path).names else "item_id"
        columns = [identity, *_COLUMNS[1:]]
        table = pq.read_table(table_path, columns=columns)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise DataError(
            f"{table_path} cannot be read: {error}", hint="run `curate retrieve` again"
        ) from error
    shards = table.column("shard")
    if shards.null_count:
        raise DataError(
            f"{shards.null_count} of {len(shards)} images of {root} are not there yet: it holds their URLs",
            hint=f"curate fetch --transfer-set {root} --index DIR",
        )
    paths, source = placed(root, shards)
    missing = sorted(str(path) for path in paths if not path.is_file())
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise DataError(
            f"{root} lacks shards that its samples.parquet lists: {', '.join(missing[:3])}{more}",
            hint="copy the whole transfer set, or run `curate retrieve` again",
        )
    part = _Part(
        paths,
        source,
        integers(table.column("offset")),
        integers(table.column("size")),
        _id_rows(table.column(identity)),
    )
    return _within(part, dropped)


def _within(part: _Part, dropped: list[tuple[str, str]]) -> _Part:
    """The images that end within their shards; the others are dropped."""
    import pyarrow as pa

    lengths = np.array([path.stat().st_size for path in part.paths], dtype=np.int64)
    beyond = part.offset > lengths[part.source] - part.size
    if not beyond.any():
        return part
    for row in np.flatnonzero(beyond):
        path, length = part.paths[part.source[row]], lengths[part.source[row]]
        dropped.append(
            (f"{path}@{part.offset[row]}", f"beyond the end of the shard: cut off at byte {length}")
        )
    kept = ~beyond
    source = pa.array(part.source[kept]).dictionary_encode()
    return _Part(
        [part.paths[number] for number in source.dictionary.to_pylist()],
        source.indices.to_numpy(),
        part.offset[kept],
        part.size[kept],
        part.ids[kept],
    )


def placed(root: Path, shards: "pa.ChunkedArray") -> tuple[list[Path], np.ndarray]:
    """The tars that a table's column names, each once and in the order of their first rows, and (n,) int64:
    which of them each row is in."""
    import pyarrow as pa

    if pa.types.is_dictionary(shards.type):  # as another writer keeps them, perhaps with names of no row
        shards = shards.cast(shards.type.value_type)
    encoded = shards.dictionary_encode().combine_chunks()
    numbers: dict[Path, int] = {}
    paths = (_shard_path(root, str(name)) for name in encoded.dictionary.to_pylist())
    known = np.array([numbers.setdefault(path, len(numbers)) for path in paths], dtype=np.int64)
    return list(numbers), known[encoded.indices.to_numpy()]


def integers(column: "pa.ChunkedArray") -> np.ndarray:
    """(n,) int64; TypeError where a value is missing."""
    return column.cast("int64").to_numpy().astype(np.int64, casting="safe", copy=False)


def _id_rows(column: "pa.ChunkedArray") -> np.ndarray:
    """(n, 16) uint8 of item ids, which are bytes or in hex; those that are shorter stand at the right."""
    ids = np.zeros((len(column), ID_BYTES), dtype=np.uint8)
    for start in range(0, len(column), _AT_ONCE):
        joined = _joined_ids(column.slice(start, _AT_ONCE).to_pylist())
        ids[start : start + _AT_ONCE] = np.frombuffer(joined, np.uint8).reshape(-1, ID_BYTES)
    return ids


def _joined_ids(ids: list[Any]) -> bytes:
    if all(isinstance(one, str) and len(one) == 2 * ID_BYTES for one in ids):
        return bytes.fromhex("".join(ids))
    known = (bytes.fromhex(one) if isinstance(one, str) else one for one in ids)
    return b"".join(one.rjust(ID_BYTES, b"\0") for one in known)


def _shard_path(root: Path, shard: str) -> Path:
    inside = root / "shards" / shard
    return inside if inside.is_file() else root / shard if (root / shard).is_file() else inside


def _scan_tar(path: Path, dropped: list[tuple[str, str]]) -> _Part:
    """The image of every sample of a tar that has no table."""
    found = scan(path)
    if found.error is not None:
        dropped.append((str(path), found.error))
    images: list[Member] = []
    for sample in group_samples(found.members):
        extension = _image_extension(sample)
        if extension is None:
            dropped.append(
                (f"{path}:{sample.key}", f"no image among its members: {', '.join(sample.members)}")
            )
        else:
            if unused := _unused_images(sample, extension):
                dropped.append((f"{path}:{sample.key}", f"only {extension} is used, not {unused}"))
            images.append(sample.members[extension])
    return _Part(
        [path] if images else [],
        np.zeros(len(images), dtype=np.int64),
        np.array([image.offset for image in images], dtype=np.int64),
        np.array([image.size for image in images], dtype=np.int64),
        np.zeros((len(images), ID_BYTES), dtype=np.uint8),
    )


def _image_extension(sample: Sample) -> str | None:
    """The member that is the picture: `jpg` before `jpeg`, …, plain extensions before `left.jpg` and the
    like."""
    for wanted in _IMAGE_EXTENSIONS:
        if wanted in sample.members:
            return wanted
    return min(_compound_images(sample), default=None)


def _compound_images(sample: Sample) -> list[str]:
    """`left.jpg`; also `1.jpg` of a key with a dot in it, which webdataset's rule cuts at the first one."""
    parts = ((extension, extension.rpartition(".")) for extension in sample.members)
    return sorted(extension for extension, (first, _, last) in parts if first and last in _IMAGE_EXTENSIONS)


def _unused_images(sample: Sample, used: str) -> str:
    """Other images of a sample that has no main one: which of them would be as good as the one that is
    used."""
    others = [extension for extension in _compound_images(sample) if extension != used]
    return ", ".join(others[:5]) + (", …" if len(others) > 5 else "") if "." in used else ""


def _joined(parts: Sequence[_Part]) -> Samples:
    """The parts in their order; a tar that is in several of them is one source."""
    numbers: dict[Path, int] = {}
    renumbered = [
        np.array([numbers.setdefault(path, len(numbers)) for path in part.paths], dtype=np.int64)[part.source]
        for part in parts
        if part.paths
    ]
    source = np.concatenate(renumbered)
    return Samples(
        sources=tuple(numbers),
        source=source,
        offset=np.concatenate([part.offset for part in parts]),
        size=np.concatenate([part.size for part in parts]),
        ids=np.concatenate([part.ids for part in parts]),
        copy=np.zeros(len(source), dtype=np.int64),
        repeats=np.ones(len(source), dtype=np.int64),
    )
