"""`curate guard`: whether a finished transfer set holds copies of images that it must not hold."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from curate.copies.checks import near_copies
from curate.encoding.pipeline import Encoded, PipelineOptions, encode_items
from curate.index.encoder import IndexEncoder
from curate.index.index import Index
from curate.selection.guard import ExcludedSet, load_excluded
from curate.selection.removed import EXACT_BYTES, LEAKS, NEAR_COPY, SAME_PIXELS, Why
from curate.selection.thresholds import Calibration, stored_calibration
from curate.transfer_set.manifest import SHARDS, read_manifest
from transferset.copies import item_id, pixels_of
from transferset.errors import DataError, UsageError
from transferset.parallel import ordered_map
from transferset.progress import progress
from transferset.tars import TarReader

T = TypeVar("T")


@dataclass(frozen=True)
class Leak:
    """A sample of the transfer set that is a copy of an excluded image; scores as in `Removed`."""

    item_id: str
    why: Why
    match: str
    similarity: float | None = None
    agreement: float | None = None


@dataclass(frozen=True)
class GuardReport:
    """What was compared, and the copies that were found."""

    transfer_set: Path
    samples: int
    images: int
    near: bool
    leaks: tuple[Leak, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, for `--json`."""
        counts = {why: sum(leak.why == why for leak in self.leaks) for why in LEAKS}
        return {**asdict(self), "transfer_set": str(self.transfer_set), "found": counts}


@dataclass(frozen=True)
class _Stored:
    """A sample's image in its shard."""

    identity: str
    shard: Path
    offset: int
    size: int

    def read(self) -> bytes:
        with TarReader(self.shard) as reader:
            return reader.read(self.offset, self.size)


def guard(
    against: list[Path],
    transfer_set: Path,
    index: Index,
    near: bool = True,
    device: str = "auto",
    pipeline: PipelineOptions | None = None,
) -> GuardReport:
    """Compare every sample of a transfer set with the images below the folders `against`.

    `index` is the one that the set was retrieved from: its encoder embeds both, and its thresholds serve.

    Raises UsageError: another encoder's index, or one that was never calibrated. DataError: no such
    transfer set, or an image in it can't be read.
    """
    chosen = pipeline or PipelineOptions()
    manifest = read_manifest(Path(transfer_set))
    samples = _samples(Path(transfer_set))
    excluded = load_excluded(against, chosen.max_pixels, chosen.threads)
    by_id = {image.item_id.hex(): image.name for image in reversed(excluded.images)}
    leaks = [Leak(one.identity, EXACT_BYTES, by_id[one.identity]) for one in samples if one.identity in by_id]
    rest = [one for one in samples if one.identity not in by_id]
    of_excluded = _pixels(lambda image: image.path.read_bytes(), excluded.images, chosen)
    pixels = {found: image.name for found, image in zip(of_excluded, excluded.images, strict=True) if found}
    for found, one in zip(_pixels(_checked, rest, chosen), rest, strict=True):
        if found in pixels:
            leaks.append(Leak(one.identity, SAME_PIXELS, pixels[found]))
    known = {leak.item_id for leak in leaks}
    rest = [one for one in rest if one.identity not in known]
    if near and rest:
        calibration = _calibration(manifest, index)
        leaks += _near_leaks(rest, excluded, IndexEncoder(index, device), calibration, chosen)
    return GuardReport(Path(transfer_set), len(samples), len(excluded.images), near, tuple(leaks))


def _near_leaks(
    samples: list[_Stored],
    excluded: ExcludedSet,
    encoder: IndexEncoder,
    calibration: Calibration,
    pipeline: PipelineOptions,
) -> list[Leak]:
    model = encoder.model
    copies = near_copies(excluded, encoder.index, model, calibration, pipeline)
    rows = np.empty((len(samples), model.dimension), np.float16)
    with progress("embedding the transfer set", len(samples), "images") as bar:
        for place, outcome in enumerate(encode_items(model, samples, _checked, pipeline)):
            if not isinstance(outcome, Encoded):
                raise DataError(f"sample {outcome.item.identity} cannot be read: {outcome.reason}")
            rows[place] = outcome.embedding
            bar.advance()
    return [
        Leak(
            hit.item.identity,
            NEAR_COPY,
            excluded.images[hit.image].name,
            hit.similarity,
            hit.agreement,
        )
        for hit in copies.among(samples, rows, _checked)
    ]


def _samples(transfer_set: Path) -> list[_Stored]:
    import pyarrow.parquet as pq

    path = transfer_set / "samples.parquet"
    if not path.is_file():
        raise DataError(f"{transfer_set} is not a transfer set: it has no {path.name}")
    table = pq.read_table(path, columns=["item_id", "shard", "offset", "size"])
    return [
        _Stored(row["item_id"], transfer_set / SHARDS / row["shard"], row["offset"], row["size"])
        for row in table.to_pylist()
    ]


def _checked(one: _Stored) -> bytes:
    data = one.read()
    if item_id(data).hex() != one.identity:
        raise DataError(f"{one.shard} is damaged: it does not hold sample {one.identity} where it should")
    return data


def _pixels(
    read: Callable[[T], bytes], images: Sequence[T], pipeline: PipelineOptions
) -> Iterator[bytes | None]:
    def one(image: T) -> bytes | None:
        return pixels_of(read(image), pipeline.max_pixels)

    return ordered_map(one, images, pipeline.threads, 4 * pipeline.threads)


def _calibration(manifest: dict[str, Any], index: Index) -> Calibration:
    if manifest["arguments"]["index"]["plan"] != index.plan.fingerprint:
        raise UsageError(
            f"the transfer set was not retrieved from {index.path}: another encoder or runtime",
            hint="give the index that it was retrieved from as --index",
        )
    found = stored_calibration(index.path, index.manifest)
    if found is None:
        raise UsageError(
            f"{index.path} was never calibrated",
            hint=f"run curate calibrate --index {index.path}, or --no-near",
        )
    return found
