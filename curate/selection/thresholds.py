"""From where on two images may be copies: found for one encoder, kept with its index."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from curate.index.layout import THRESHOLDS, WHITENING
from curate.selection.whitening import Whitening
from transferset.writes import sha256_file


@dataclass(frozen=True)
class Thresholds:
    """Cosines, found by `curate calibrate`: those of duplicates between embeddings, those of leaks between
    whitened ones.

    Attributes:
        duplicate: two items of the pool from here on, whose perceptual hashes are alike, are suspects: their
            pixels are compared. What a URL gives must reach it to be the image that was embedded.
        duplicate_alone: from here on two items are suspects whatever their hashes, and count as copies where
            the pixels of one can't be read. No two different images of the sample were so close.
        leak: an item and any view of an excluded image from here on are suspects.
        leak_alone: from here on they count as copies where the pixels of one can't be read.
    """

    duplicate: float
    duplicate_alone: float
    leak: float
    leak_alone: float

    def to_dict(self) -> dict[str, float]:
        """As JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Calibration:
    """What the near checks need to know of an encoder; `digest` is the SHA-256 of the stored whitening."""

    thresholds: Thresholds
    whitening: Whitening
    digest: str

    def to_dict(self) -> dict[str, Any]:
        """What a transfer set depends on, as JSON types."""
        return {**self.thresholds.to_dict(), "whitening": self.digest}


def stored_thresholds(manifest: Mapping[str, Any]) -> Thresholds | None:
    """The thresholds in an index's manifest; None if it was never calibrated."""
    found = manifest.get(THRESHOLDS)
    if not isinstance(found, dict):
        return None
    values = [found.get(name) for name in Thresholds.__dataclass_fields__]
    if not all(isinstance(value, int | float) for value in values):
        return None
    return Thresholds(*(float(value) for value in values if value is not None))


def stored_calibration(index: Path, manifest: Mapping[str, Any]) -> Calibration | None:
    """The calibration of the index in folder `index`; None if there is none, or its whitening is not the one
    that the manifest names."""
    thresholds = stored_thresholds(manifest)
    path = index / WHITENING
    if thresholds is None or not path.is_file():
        return None
    digest = sha256_file(path)
    if digest != manifest[THRESHOLDS].get("whitening"):
        return None
    return Calibration(thresholds, Whitening.load(path), digest)
