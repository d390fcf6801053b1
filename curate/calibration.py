"""`curate calibrate`: from which cosine on two images may be copies, for the encoder of one index.

A seeded sample of the pool's images is edited as the web edits images; the cosines of these copies, and those
of the sampled images' nearest neighbours that are no copies, say where to look. No number comes from another
encoder. The thresholds only choose suspects, which are then compared by their pixels: so they are set for
copies to be found; that the number of suspects stays bearable is the checks' own business.
"""

import errno
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
from curate.index.layout import PARTS_TABLE
from curate.index.manifest import read_manifest, write_manifest
from curate.index.numbering import Numbering
from curate.index.part import ItemRow
from curate.selection.near_copies import DECIMALS, best_cosines, embeddings_of, pool_bytes, sketch_of
from curate.selection.thresholds import MANIFEST_KEY, Thresholds, stored_thresholds
from transferset.alignment import SAME_PICTURE, agreement
from transferset.console import say
from transferset.errors import BusyError, DataError, UsageError
from transferset.images import decode
from transferset.lock import DirectoryLock
from transferset.models.runtime import FrozenModel
from transferset.parallel import ordered_map

DEFAULT_SAMPLE = 100
_ROWS = 20_000
_BLOCK = 2_048
_MISSED_COPIES = 0.005
_MISSED_DUPLICATES = 0.01
_INNOCENT_ALONE = 0.005


@dataclass(frozen=True)
class Measured:
    """Cosines of edited copies and of images that are no copies.

    `strong`, `slight`: of copies with the nearest view of their original, and with the original itself;
    `rows`: of pool items with the nearest view of any sampled image; `nearest`: of sampled images with
    their nearest neighbour. Copies that the pool has of the sampled images are left out of the last two.
    """

    strong: np.ndarray
    slight: np.ndarray
    rows: np.ndarray
    nearest: np.ndarray
    images: int
    seconds: float

    def thresholds(self) -> Thresholds:
        """The lowest cosines that miss few copies, and one that hardly any innocent reaches."""
        leak, duplicate = _low(self.strong, _MISSED_COPIES), _low(self.slight, _MISSED_DUPLICATES)
        alone = max(_high(self.nearest, _INNOCENT_ALONE), leak, duplicate)
        return Thresholds(*(round(value, DECIMALS) for value in (duplicate, leak, alone)))

    def describe(self, thresholds: Thresholds) -> dict[str, Any]:
        """Shares found at the thresholds, for the manifest."""
        return {
            "copies": len(self.strong),
            "copies_found": _share(self.strong, thresholds.leak_candidate),
            "items": len(self.rows),
            "innocent_items_suspected": _share(self.rows, thresholds.leak_candidate),
            "slight_copies": len(self.slight),
            "slight_copies_found": _share(self.slight, thresholds.duplicate),
            "neighbours": len(self.nearest),
            "innocent_neighbours_suspected": _share(self.nearest, thresholds.duplicate),
            "slight_copies_found_by_cosine_alone": _share(self.slight, thresholds.alone),
        }


def _low(values: np.ndarray, share: float) -> float:
    return float(np.quantile(values, share)) if len(values) else 1.0


def _high(values: np.ndarray, share: float) -> float:
    return float(np.quantile(values, 1 - share)) if len(values) else -1.0


def _share(values: np.ndarray, threshold: float) -> float:
    return round(float((values >= threshold).mean()), 4) if len(values) else 0.0


@dataclass(frozen=True)
class CalibrateReport:
    """What `calibrate` found: `entry` is what the index's manifest holds, `stored` whether it does."""

    index: Path
    entry: dict[str, Any]
    stored: bool
    images: int
    seconds: float

    @property
    def thresholds(self) -> Thresholds:
        """The three cosines."""
        found = stored_thresholds({MANIFEST_KEY: self.entry})
        assert found is not None
        return found

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
    """Find the thresholds of `index` with its encoder and store them in its manifest.

    `sample` images of the pool are used (all, if it has fewer). An index that can't be written to, or is
    being built, is left alone: the report says so (`stored` False), and the thresholds hold for the caller.

    Raises UsageError: a sample under 2. DataError: fewer than two images can be read.
    """
    if sample < 2:
        raise UsageError(f"--sample must be at least 2, got {sample}")
    measured = _measure(index, model, sample, seed, pipeline or PipelineOptions())
    thresholds = measured.thresholds()
    entry = {
        **thresholds.to_dict(),
        **measured.describe(thresholds),
        "encoder": index.encoder_fingerprint,
        "sample": len(measured.nearest),
        "rows": index.rows,
        "seed": seed,
        "views": VIEWS,
    }
    report = CalibrateReport(index.path, entry, _store(index, entry), measured.images, measured.seconds)
    say(
        f"calibrated in {measured.seconds:.1f} s ({measured.images} images embedded): suspects from cosine "
        f"{thresholds.leak_candidate:.3f} (leaks), {thresholds.duplicate:.3f} (duplicates)"
        + ("" if report.stored else "; the index can't be written to, so this is not kept")
    )
    return report


def _store(index: Index, entry: dict[str, Any]) -> bool:
    """Put the entry into the manifest of this state of the index, in memory and on disk."""
    index.manifest[MANIFEST_KEY] = entry
    try:
        with DirectoryLock(index.path):
            manifest, _ = read_manifest(index.path)
            manifest[MANIFEST_KEY] = entry
            write_manifest(index.path, (index.path / PARTS_TABLE).read_bytes(), manifest)
    except (BusyError, PermissionError):
        return False
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return False
    return True


def _measure(index: Index, model: FrozenModel, sample: int, seed: int, pipeline: PipelineOptions) -> Measured:
    start = time.perf_counter()
    positions = _draw(index, _ROWS + sample, seed)
    items = _with_bytes(index, positions, sample)
    if len(items) < 2:
        raise DataError(
            "calibration needs at least two images of the pool and their bytes",
            hint="turn the near checks off: --no-near",
        )
    images = [index.read_bytes(item) for item in items]
    views = [one for one in embed_views(model, images, lambda data: data, pipeline) if one is not None]
    if len(views) < len(images):
        raise DataError("images of the pool that were indexed can't be decoded any more")

    def pictures(numbered: tuple[int, bytes]) -> list[np.ndarray]:
        number, data = numbered
        copies = edited_copies(
            decode(data, max_pixels=pipeline.max_pixels), np.random.default_rng((seed, number))
        )
        return [*copies.slight, *copies.strong]

    copies = [one for one in embed_pictures(model, enumerate(images), pictures, pipeline) if one is not None]
    slight = np.concatenate([few[: len(SLIGHT)] @ own[0] for few, own in zip(copies, views, strict=True)])
    strong = np.concatenate(
        [(many[len(SLIGHT) :] @ own.T).max(axis=1) for many, own in zip(copies, views, strict=True)]
    )
    rows, nearest = _innocents(index, items, np.stack(views), positions, pipeline)
    count = sum(len(one) for one in (*views, *copies))
    return Measured(strong, slight, rows, nearest, count, time.perf_counter() - start)


def _draw(index: Index, amount: int, seed: int) -> np.ndarray:
    """Distinct positions (n,) int64, in random order."""
    numbering = Numbering(index.parts)
    rng = np.random.default_rng(seed)
    rows = rng.choice(numbering.total, min(amount, numbering.total), replace=False, shuffle=True)
    return numbering.positions(rows.astype(np.int64))


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
    positions: np.ndarray,
    pipeline: PipelineOptions,
) -> tuple[np.ndarray, np.ndarray]:
    """`rows` and `nearest` of Measured. Of each sampled image the most similar item among `positions` is
    laid over it, so that copies are not taken for innocents."""
    ids = [item.item_id for item in sampled]
    most = np.full(len(positions), -1.0, np.float32)
    itself = np.zeros(len(positions), bool)
    nearest = np.full(len(sampled), -1.0, np.float32)
    which = np.full(len(sampled), -1, np.int64)
    for start in range(0, len(positions), _BLOCK):
        some = positions[start : start + _BLOCK]
        rows = embeddings_of(index, some)
        cosines = best_cosines(rows, views)
        own = [ids.index(item.item_id) if item.item_id in ids else -1 for item in index.items(some)]
        itself[start : start + _BLOCK] = np.array(own) >= 0
        most[start : start + _BLOCK] = cosines.max(axis=1)
        plain = rows.astype(np.float32) @ views[:, 0].T
        plain[np.arange(len(some))[np.array(own) >= 0], [one for one in own if one >= 0]] = -1
        best = plain.argmax(axis=0)
        better = plain[best, np.arange(len(sampled))] > nearest
        nearest[better] = plain[best, np.arange(len(sampled))][better]
        which[better] = start + best[better]
    copies = _are_copies(index, sampled, positions[which], pipeline)
    innocent = ~itself
    innocent[which[copies]] = False
    return most[innocent], nearest[~copies]


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
