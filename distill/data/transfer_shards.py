"""Opening of `--shards`: transfer sets of `curate retrieve`, and tars that anyone's webdataset wrote."""

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill.data.samples import Samples
from transferset.copies import ID_BYTES
from transferset.errors import DataError, UsageError
from transferset.tars import Sample, group_samples, scan

_IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "img", "image")
_COLUMNS = ["item_id", "shard", "offset", "size"]
_SET_COLUMNS = ["item_id", "shard", "offset", "hinted_label"]
_BYTES_ID = "bytes_id"


@dataclass(frozen=True)
class TransferShards:
    """The images of a transfer set in a fixed order, and what was left out of it: (where, why)."""

    samples: Samples
    dropped: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Row:
    path: Path
    offset: int
    size: int
    item_id: bytes


def open_transfer_shards(paths: Sequence[str | Path]) -> TransferShards:
    """Open `--shards PATH…`: each a transfer set's root, a folder of tars (searched recursively), a tar, or a
    glob.

    A root is told by its `samples.parquet`, which gives every image's place and item id. Other tars are
    scanned; each of their samples must have a member that is an image by its extension (`.cls`, `.json`, …
    are not used). The order is that of the paths given, then sorted tars, then the order within. A tar that
    is named twice counts once.

    Raises UsageError where a path holds no tar, DataError where shards are missing or nothing at all is left.
    """
    rows: list[_Row] = []
    dropped: list[tuple[str, str]] = []
    tars: dict[Path, None] = {}
    for path in (found for given in paths for found in expand(given)):
        if (path / "samples.parquet").is_file():
            _read_transfer_set(path, rows, dropped)
        else:
            tars.update(dict.fromkeys(_tars(path)))
    listed = {row.path.resolve() for row in rows}
    for tar in tars:
        if tar.resolve() not in listed:
            _scan_tar(tar, rows, dropped)
    if not rows:
        reasons = "; ".join(f"{where}: {why}" for where, why in dropped[:3])
        raise DataError(f"no image in {', '.join(map(str, paths))}" + (f" ({reasons})" if reasons else ""))
    return TransferShards(_table(rows), tuple(dropped))


@dataclass(frozen=True)
class SetRow:
    """What a transfer set calls an image, in hex, and the label that it hints at, if any."""

    item_id: str
    hinted_label: str | None


def set_rows(paths: Sequence[str | Path]) -> dict[tuple[Path, int], SetRow]:
    """The rows of the transfer sets among `--shards`, by the tar and the offset in it where an image is. In a
    set that was fetched from URLs an image's `item_id` is of its URL, and not that of its bytes."""
    import pyarrow.parquet as pq

    found: dict[tuple[Path, int], SetRow] = {}
    for root in (path for given in paths for path in expand(given)):
        table_path = root / "samples.parquet"
        if not table_path.is_file():
            continue
        names = pq.read_schema(table_path).names
        table = pq.read_table(table_path, columns=[one for one in _SET_COLUMNS if one in names])
        for row in table.to_pylist():
            identity = row["item_id"] if isinstance(row["item_id"], str) else row["item_id"].hex()
            place = _shard_path(root, row["shard"]), int(row["offset"])
            found[place] = SetRow(identity, row.get("hinted_label"))
    return found


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


def _read_transfer_set(root: Path, rows: list[_Row], dropped: list[tuple[str, str]]) -> None:
    """Append the rows of `root/samples.parquet`, in its order; samples beyond a shard's end are dropped."""
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
    ids, shards, offsets, sizes = (table.column(name).to_pylist() for name in columns)
    if None in shards:
        raise DataError(
            f"{shards.count(None)} of {len(shards)} images of {root} are not there yet: it holds their URLs",
            hint=f"curate fetch --transfer-set {root} --index DIR",
        )
    places = {name: _shard_path(root, str(name)) for name in dict.fromkeys(shards)}
    missing = sorted(str(path) for path in places.values() if not path.is_file())
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise DataError(
            f"{root} lacks shards that its samples.parquet lists: {', '.join(missing[:3])}{more}",
            hint="copy the whole transfer set, or run `curate retrieve` again",
        )
    lengths = {path: path.stat().st_size for path in places.values()}
    for identity, shard, offset, size in zip(ids, shards, offsets, sizes, strict=True):
        path = places[shard]
        if offset + size > lengths[path]:
            dropped.append(
                (f"{path}@{offset}", f"beyond the end of the shard: cut off at byte {lengths[path]}")
            )
            continue
        rows.append(
            _Row(path, offset, size, bytes.fromhex(identity) if isinstance(identity, str) else identity)
        )


def _shard_path(root: Path, shard: str) -> Path:
    inside = root / "shards" / shard
    return inside if inside.is_file() else root / shard if (root / shard).is_file() else inside


def _scan_tar(path: Path, rows: list[_Row], dropped: list[tuple[str, str]]) -> None:
    """Append the image of every sample of a tar that has no table."""
    found = scan(path)
    if found.error is not None:
        dropped.append((str(path), found.error))
    for sample in group_samples(found.members):
        extension = _image_extension(sample)
        if extension is None:
            dropped.append(
                (f"{path}:{sample.key}", f"no image among its members: {', '.join(sample.members)}")
            )
        else:
            member = sample.members[extension]
            if unused := _unused_images(sample, extension):
                dropped.append((f"{path}:{sample.key}", f"only {extension} is used, not {unused}"))
            rows.append(_Row(path, member.offset, member.size, b""))


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


def _table(rows: Sequence[_Row]) -> Samples:
    sources = {path: number for number, path in enumerate(dict.fromkeys(row.path for row in rows))}
    return Samples(
        sources=tuple(sources),
        source=_column(sources[row.path] for row in rows),
        offset=_column(row.offset for row in rows),
        size=_column(row.size for row in rows),
        ids=np.frombuffer(b"".join(row.item_id.rjust(ID_BYTES, b"\0") for row in rows), np.uint8).reshape(
            -1, ID_BYTES
        ),
        copy=np.zeros(len(rows), dtype=np.int64),
        repeats=np.ones(len(rows), dtype=np.int64),
    )


def _column(values: Iterable[int]) -> np.ndarray:
    return np.fromiter(values, dtype=np.int64)
