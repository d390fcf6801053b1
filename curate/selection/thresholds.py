"""From which cosine on two images may be copies: found for one encoder, kept in its index's manifest."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

MANIFEST_KEY = "thresholds"


@dataclass(frozen=True)
class Thresholds:
    """Cosines, found by `curate calibrate`.

    Attributes:
        duplicate: two items of the pool from here on, whose perceptual hashes are alike, are suspects: their
            pixels are compared.
        leak_candidate: an item and any view of an excluded image from here on are suspects.
        alone: from here on two items are suspects whatever their hashes, and a pair counts as copies where
            the pixels of one can't be read.
    """

    duplicate: float
    leak_candidate: float
    alone: float

    def to_dict(self) -> dict[str, float]:
        """As JSON types."""
        return asdict(self)


def stored_thresholds(holder: Mapping[str, Any]) -> Thresholds | None:
    """The thresholds in an index's manifest; None if it was never calibrated."""
    found = holder.get(MANIFEST_KEY)
    if not isinstance(found, dict):
        return None
    names = ("duplicate", "leak_candidate", "alone")
    values = [found.get(name) for name in names]
    if not all(isinstance(value, (int, float)) for value in values):
        return None
    return Thresholds(*(float(value) for value in values if value is not None))
