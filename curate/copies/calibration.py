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

from curate.copies.cosines import Measured, measure
from curate.encoding.pipeline import PipelineOptions
from curate.encoding.views import COPY_VIEWS
from curate.index.index import Index
from curate.index.layout import PARTS_TABLE, THRESHOLDS, WHITENING
from curate.index.manifest import read_manifest, write_manifest
from curate.index.numbering import Numbering
from curate.index.part import ItemRow
from curate.selection.thresholds import Calibration, Thresholds
from curate.selection.whitening import Whitening
from transferset.console import say
from transferset.errors import BusyError, DataError, UsageError
from transferset.lock import DirectoryLock
from transferset.models.runtime import FrozenModel
from transferset.writes import write_bytes

DEFAULT_SAMPLE = 100
ROWS = 20_000
"""Of the pool, that copies and their originals are compared with."""


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
            hint="turn off the near checks with --no-near",
        )
    found = calibrate_on(index, items, positions, model, seed, pipeline or PipelineOptions())
    entry = {
        **found.thresholds.to_dict(),
        **found.measured.describe(found.thresholds),
        "encoder": index.encoder_fingerprint,
        "sample": len(items),
        "rows": index.rows,
        "seed": seed,
        "views": COPY_VIEWS,
    }
    calibration, stored = _store(index, found.thresholds, found.whitening, entry)
    seconds = time.perf_counter() - start
    if not stored:
        say("the index can't be written to, so the calibration is not saved")
    return CalibrateReport(index.path, calibration, entry, stored, found.measured.images, seconds)


@dataclass(frozen=True)
class Found:
    """What a calibration found."""

    thresholds: Thresholds
    whitening: Whitening
    measured: Measured

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
    whitening = Whitening.fit(index.vectors(positions))
    say(f"calibrating on {len(items)} images, with {COPY_VIEWS} views and some copies of each")
    measured = measure(index, items, positions, whitening, model, seed, pipeline)
    thresholds = measured.thresholds()
    say(
        f"calibrated in {time.perf_counter() - start:.1f} s ({measured.images} images embedded): suspects "
        f"from cosine {thresholds.leak:.3f} (leaks, whitened), {thresholds.duplicate:.3f} (duplicates)"
    )
    return Found(thresholds, whitening, measured)


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
