"""`curate calibrate`: from which cosine on two images may be copies, for the encoder of one index.

A seeded sample of the pool's images is edited as the web edits images; the cosines of these copies, and those
of the sampled images with images that are no copies, say where to look. No number comes from another encoder.
The thresholds only choose suspects, which are then compared by their pixels: so they are set for copies to be
found, and as low as the work allows.
"""

import errno
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from curate.encoding.edits import SLIGHT, edited_copies
from curate.encoding.pipeline import PipelineOptions, available_cores
from curate.encoding.views import VIEWS, embed_pictures, embed_views
from curate.index.index import Index
from curate.index.layout import PARTS_TABLE, THRESHOLDS, WHITENING
from curate.index.manifest import read_manifest, write_manifest
from curate.index.numbering import Numbering
from curate.index.part import ItemRow
from curate.selection.near_copies import DECIMALS, best_cosines, embeddings_of, pool_bytes, sketch_of
from curate.selection.thresholds import Calibration, Thresholds
from curate.selection.whitening import Whitening
from transferset.alignment import SAME_PICTURE, agreement
from transferset.console import say
from transferset.errors import BusyError, DataError, UsageError
from transferset.images import decode
from transferset.lock import DirectoryLock
from transferset.models.runtime import FrozenModel
from transferset.parallel import ordered_map
from transferset.writes import write_bytes

DEFAULT_SAMPLE = 100
ROWS = 20_000
"""Of the pool, that copies and their originals are compared with."""
_BLOCK = 2_048
_MISSED_COPIES = 0.002
_MISSED_DUPLICATES = 0.01
_SUSPECTED = 2.5e-4


@dataclass(frozen=True)
class Measured:
    """Cosines of edited copies and of images that are no copies.

    `strong`: whitened, of copies with the nearest view of their original; `slight`: of copies with the
    original itself; `pairs` (rows, images): whitened, of pool items with the nearest view of each sampled
    image; `nearest`: of sampled images with their nearest neighbour. Copies that the pool has of the sampled
    images are left out (NaN) of the last two.
    """

    strong: np.ndarray
    slight: np.ndarray
    pairs: np.ndarray
    nearest: np.ndarray

    def thresholds(self) -> Thresholds:
        """Low enough to miss few copies; that of leaks lower still, if few innocent pairs are suspected then.
        Without a look at pixels, only what no innocent pair reached."""
        innocent, others = self.pairs[~np.isnan(self.pairs)], self.nearest[~np.isnan(self.nearest)]
        duplicate = _low(self.slight, _MISSED_DUPLICATES)
        leak = min(_low(self.strong, _MISSED_COPIES), _high(innocent, _SUSPECTED))
        alone = [max(low, _high(values, 0)) for low, values in ((duplicate, others), (leak, innocent))]
        return Thresholds(*(round(value, DECIMALS) for value in (duplicate, alone[0], leak, alone[1])))

    def describe(self, thresholds: Thresholds) -> dict[str, Any]:
        """Shares found at the thresholds, for the manifest."""
        return {
            "copies": len(self.strong),
            "copies_found": _share(self.strong, thresholds.leak),
            "copies_found_by_cosine_alone": _share(self.strong, thresholds.leak_alone),
            "items": len(self.pairs),
            "innocent_pairs_suspected": _share(self.pairs.reshape(-1), thresholds.leak, 7),
            "slight_copies": len(self.slight),
            "slight_copies_found": _share(self.slight, thresholds.duplicate),
            "slight_copies_found_by_cosine_alone": _share(self.slight, thresholds.duplicate_alone),
            "neighbours": len(self.nearest),
            "innocent_neighbours_suspected": _share(self.nearest, thresholds.duplicate),
        }


def _low(values: np.ndarray, share: float) -> float:
    return float(np.quantile(values, share)) if len(values) else 1.0


def _high(values: np.ndarray, share: float) -> float:
    return float(np.quantile(values, 1 - share)) if len(values) else -1.0


def _share(values: np.ndarray, threshold: float, digits: int = 4) -> float:
    known = values[~np.isnan(values)]
    return round(float((known >= threshold).mean()), digits) if len(known) else 0.0


@dataclass(frozen=True)
class CalibrateReport:
    """What `calibrate` found: `entry` is what the index's manifest holds, `stored` whether it does; `images`
    were embedded for it."""

    index: Path
    calibration: Calibration
    entry: dict[str, Any]
    stored: bool
    images: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, for `--json`."""
        return {
            **self.entry,
            "index": str(self.index),
            "stored": self.stored,
            "images_embedded": self.images,
            "seconds": round(self.seconds, 1),
        }


def calibrate(
    index: Index,
    model: FrozenModel,
    sample: int = DEFAULT_SAMPLE,
    seed: int = 0,
    pipeline: PipelineOptions | None = None,
) -> CalibrateReport:
    """Find the thresholds of `index` with its encoder and store them with it.

    `sample` images of the pool are used (all, if it has fewer). The same index, sample and seed give the same
    thresholds. An index that can't be written to, or is being built, is left alone: the report says so
    (`stored` False), and the calibration holds for the caller.

    Raises UsageError: a sample under 2. DataError: fewer than two images can be read.
    """
    if sample < 2:
        raise UsageError(f"--sample must be at least 2, got {sample}")
    start = time.perf_counter()
    positions = draw(index, ROWS + sample, seed)
    items = _with_bytes(index, positions, sample)
    if len(items) < 2:
        raise DataError(
            "calibration needs at least two images of the pool and their bytes",
            hint="turn the near checks off: --no-near",
        )
    found = calibrate_on(index, items, positions, model, seed, pipeline or PipelineOptions())
    entry = {
        **found.thresholds.to_dict(),
        **found.measured.describe(found.thresholds),
        "encoder": index.encoder_fingerprint,
        "sample": len(items),
        "rows": index.rows,
        "seed": seed,
        "views": VIEWS,
    }
    calibration, stored = _store(index, found.thresholds, found.whitening, entry)
    seconds = time.perf_counter() - start
    if not stored:
        say("the index can't be written to, so the calibration is not kept")
    return CalibrateReport(index.path, calibration, entry, stored, found.images, seconds)


@dataclass(frozen=True)
class Found:
    """What a calibration found, and how many `images` were embedded for it."""

    thresholds: Thresholds
    whitening: Whitening
    measured: Measured
    images: int

    @property
    def calibration(self) -> Calibration:
        """For checks that nothing has to be stored for."""
        return Calibration(
            self.thresholds, self.whitening, hashlib.sha256(self.whitening.to_bytes()).hexdigest()
        )


def calibrate_on(
    index: Index,
    items: Sequence[ItemRow],
    positions: np.ndarray,
    model: FrozenModel,
    seed: int,
    pipeline: PipelineOptions,
) -> Found:
    """Find thresholds on items whose bytes there are, compared with the rows at `positions` (n,) int64."""
    start = time.perf_counter()
    whitening = Whitening.fit(embeddings_of(index, positions))
    say(f"calibrating on {len(items)} images, with {VIEWS} views and some copies of each")
    views, copies = _embed(index, model, items, seed, pipeline)
    measured = _measure(index, items, positions, views, copies, whitening, pipeline)
    thresholds = measured.thresholds()
    count = sum(len(one) for one in (*views, *copies))
    say(
        f"calibrated in {time.perf_counter() - start:.1f} s ({count} images embedded): suspects from cosine "
        f"{thresholds.leak:.3f} (leaks, whitened), {thresholds.duplicate:.3f} (duplicates)"
    )
    return Found(thresholds, whitening, measured, count)


def _store(
    index: Index, thresholds: Thresholds, whitening: Whitening, entry: dict[str, Any]
) -> tuple[Calibration, bool]:
    """Put whitening and entry (which gets its digest) into the index, if that can be written; into its
    manifest in memory in any case."""
    stored, data = True, whitening.to_bytes()
    entry["whitening"] = hashlib.sha256(data).hexdigest()
    index.manifest[THRESHOLDS] = entry
    try:
        with DirectoryLock(index.path):
            write_bytes(index.path / WHITENING, data)
            manifest, _ = read_manifest(index.path)
            manifest[THRESHOLDS] = entry
            write_manifest(index.path, (index.path / PARTS_TABLE).read_bytes(), manifest)
    except (BusyError, PermissionError):
        stored = False
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        stored = False
    return Calibration(thresholds, whitening, entry["whitening"]), stored


def _embed(
    index: Index, model: FrozenModel, items: Sequence[ItemRow], seed: int, pipeline: PipelineOptions
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The unit vectors of the items' views (n, VIEWS, d), and of each item's edited copies, slight ones
    first."""
    images = [index.read_bytes(item) for item in items]
    views = [one for one in embed_views(model, images, lambda data: data, pipeline) if one is not None]
    if len(views) < len(images):
        raise DataError("images of the pool that were indexed can't be decoded any more")

    def pictures(numbered: tuple[int, bytes]) -> list[np.ndarray]:
        number, data = numbered
        rgb = decode(data, max_pixels=pipeline.max_pixels)
        copies = edited_copies(rgb, np.random.default_rng((seed, number)))
        return [*copies.slight, *copies.strong]

    copies = embed_pictures(model, enumerate(images), pictures, pipeline)
    return np.stack(views), [one for one in copies if one is not None]


def _measure(
    index: Index,
    items: Sequence[ItemRow],
    positions: np.ndarray,
    views: np.ndarray,
    copies: Sequence[np.ndarray],
    whitening: Whitening,
    pipeline: PipelineOptions,
) -> Measured:
    cut = len(SLIGHT)
    white = whitening.apply(views)
    slight = [some[:cut] @ own[0] for some, own in zip(copies, views, strict=True)]
    strong = [
        (whitening.apply(some[cut:]) @ own.T).max(axis=1) for some, own in zip(copies, white, strict=True)
    ]
    pairs, nearest = _innocents(index, items, views, white, positions, whitening, pipeline)
    return Measured(np.concatenate(strong), np.concatenate(slight), pairs, nearest)


def draw(index: Index, amount: int, seed: int) -> np.ndarray:
    """Distinct positions (n,) int64 of what is not forgotten, in random order."""
    numbering = Numbering(index.parts)
    rng = np.random.default_rng(seed)
    rows = rng.choice(numbering.total, min(amount, numbering.total), replace=False, shuffle=True)
    positions = numbering.positions(rows.astype(np.int64))
    if not len(index.forgotten.ids):
        return positions
    return positions[[item.item_id not in index.forgotten.ids for item in index.items(positions)]]


def _with_bytes(index: Index, positions: np.ndarray, sample: int) -> list[ItemRow]:
    """The first `sample` items at these positions with different contents, whose bytes the pool has."""
    found: dict[bytes, ItemRow] = {}
    for item in index.items(positions[: 2 * sample]):
        if item.source is not None or item.path is not None:
            found.setdefault(item.item_id, item)
    return list(found.values())[:sample]


def _innocents(
    index: Index,
    sampled: Sequence[ItemRow],
    views: np.ndarray,
    white: np.ndarray,
    positions: np.ndarray,
    whitening: Whitening,
    pipeline: PipelineOptions,
) -> tuple[np.ndarray, np.ndarray]:
    """`pairs` and `nearest` of Measured. Of each sampled image the most similar item among `positions` is
    laid over it, so that copies are not taken for innocents."""
    place = {item.item_id: number for number, item in enumerate(sampled)}
    pairs = np.empty((len(positions), len(sampled)), np.float32)
    plain = np.empty_like(pairs)
    for start in range(0, len(positions), _BLOCK):
        some = slice(start, start + _BLOCK)
        rows = embeddings_of(index, positions[some])
        pairs[some] = best_cosines(whitening.apply(rows), white)
        plain[some] = rows.astype(np.float32) @ views[:, 0].T
        for offset, item in enumerate(index.items(positions[some])):
            if item.item_id in place:
                pairs[start + offset, place[item.item_id]] = plain[start + offset, place[item.item_id]] = (
                    np.nan
                )
    columns = np.arange(len(sampled))
    for values in (pairs, plain):
        closest = np.where(np.isnan(values), -2, values).argmax(axis=0)
        copies = columns[_are_copies(index, sampled, positions[closest], pipeline)]
        for pair in (pairs, plain):
            pair[closest[copies], copies] = np.nan
    nearest = np.where(np.isnan(plain), -2, plain).max(axis=0)
    return pairs, np.where(nearest < -1, np.nan, nearest).round(DECIMALS)


def _are_copies(
    index: Index, sampled: Sequence[ItemRow], neighbours: np.ndarray, pipeline: PipelineOptions
) -> np.ndarray:
    """Which sampled images are copies of their neighbours (positions), by their pixels: bool."""

    def same(pair: tuple[ItemRow, ItemRow]) -> bool:
        found = [pool_bytes(index, item) for item in pair]
        one, other = (None if data is None else sketch_of(data, pipeline.max_pixels) for data in found)
        return one is not None and other is not None and agreement(one, other) >= SAME_PICTURE

    workers = pipeline.workers or available_cores()
    pairs = zip(sampled, index.items(neighbours), strict=True)
    return np.fromiter(ordered_map(same, pairs, workers, 2 * workers), bool, len(sampled))
