"""Copies among fetched images, of the excluded ones and of each other, now that there are bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from curate.copies.calibration import ROWS, calibrate_on, draw
from curate.copies.checks import near_copies
from curate.encoding.pipeline import PipelineOptions
from curate.fetch.checks import Check, Checker
from curate.fetch.chunks import Outcome
from curate.fetch.verdicts import Refused, Verdicts
from curate.selection.guard import ExcludedSet, LeakageGuard
from curate.selection.near_duplicates import NearDuplicates
from curate.selection.removed import EXACT_BYTES
from curate.selection.thresholds import Calibration
from transferset.console import say
from transferset.models.preprocessing import Preprocessing

if TYPE_CHECKING:
    from curate.index.index import Index
    from curate.index.part import ItemRow

LEAST_IMAGES, _MOST_IMAGES = 20, 100
_SEED = 0


class _Fetched:
    """The fetched images as the checks know an index: at their positions in the index, with its rows, but
    with the ids, sizes and hashes of the bytes, which can be read."""

    has_bytes = True

    def __init__(self, index: "Index", images: Sequence[tuple["ItemRow", Check, Outcome]]) -> None:
        self._index = index
        self.dimension = index.dimension
        self._items = {item.position: _with_bytes(item, check, outcome) for item, check, outcome in images}
        self._outcomes = {item.position: outcome for item, _, outcome in images}
        self._positions = {item.item_id: position for position, item in self._items.items()}

    def find(self, item_id: bytes) -> int | None:
        return self._positions.get(item_id)

    def items(self, positions: np.ndarray) -> list["ItemRow"]:
        """Those that were fetched with their bytes' facts, others as the index knows them: without bytes."""
        others = iter(self._index.items(np.array([p for p in positions.tolist() if p not in self._items])))
        return [self._items.get(p) or _without_bytes(next(others)) for p in positions.tolist()]

    def item(self, position: int) -> "ItemRow":
        return self._items[position]

    def vectors(self, positions: np.ndarray) -> np.ndarray:
        return self._index.vectors(positions)

    def read_bytes(self, item: "ItemRow") -> bytes:
        return self._outcomes[item.position].read()


def _with_bytes(item: "ItemRow", check: Check, outcome: Outcome) -> "ItemRow":
    return item._replace(
        item_id=outcome.item_id,
        size=outcome.size,
        format=check.format,
        width=check.width,
        height=check.height,
        perceptual_hash=check.perceptual_hash,
    )


def _without_bytes(item: "ItemRow") -> "ItemRow":
    return item._replace(source=None, path=None)


@dataclass(frozen=True)
class Against:
    """What fetched images are compared with, and by what: `near` is False where only exact copies count."""

    index: "Index"
    excluded: ExcludedSet | None
    checker: Checker
    pipeline: PipelineOptions
    near: bool = True


def refuse_copies(
    verdicts: Verdicts,
    checks: Mapping[int, Check],
    outcomes: Mapping[int, Outcome],
    items: Mapping[int, "ItemRow"],
    against: Against,
) -> tuple[Verdicts, Calibration | None]:
    """Refuse copies of excluded images, and near-duplicates, among the images that `judge` kept.

    Near copies are looked for with thresholds that are calibrated on the fetched images (an index over URLs
    has no others), if there are at least LEAST_IMAGES; returns them too, None if there are none.
    """
    places = {items[place].position: place for place in verdicts.kept}
    images = [(items[place], checks[place], outcomes[place]) for place in verdicts.kept]
    fetched = cast("Index", _Fetched(against.index, images))
    left = np.array(list(places), dtype=np.int64)
    near = _calibrate(fetched, left, against)
    leaks: dict[int, tuple[str, str]] = {}
    if against.excluded is not None:
        guard = _guard(fetched, near, against)
        leaks = {position: (EXACT_BYTES, image.name) for position, image in guard.exact_copies()}
        left = left[[one not in leaks for one in left.tolist()]]
        leaks |= {one.position: (one.why, one.match) for one in guard.copies(left)}
    if near is not None:
        left = left[[one not in leaks for one in left.tolist()]]
        workers = against.pipeline.threads
        duplicates = NearDuplicates(fetched, near.thresholds, against.pipeline.max_pixels, workers)
        leaks |= {one.position: (one.why, one.match) for one in duplicates.among(left)}
    refused = [Refused(places[position], why, f"of {name}") for position, (why, name) in leaks.items()]
    kept = [place for position, place in places.items() if position not in leaks]
    everything = sorted([*verdicts.refused, *refused], key=lambda one: one.place)
    return Verdicts(kept, everything), near


def _calibrate(fetched: "Index", positions: np.ndarray, against: Against) -> Calibration | None:
    if not against.near:
        return None
    if len(positions) < LEAST_IMAGES:
        say(f"note: {len(positions)} images are too few to calibrate on; near copies are not looked for")
        return None
    chosen = np.linspace(0, len(positions) - 1, min(_MOST_IMAGES, len(positions))).astype(int)
    sample = positions[list(dict.fromkeys(chosen.tolist()))]
    others = np.setdiff1d(draw(against.index, ROWS, _SEED), sample)
    rows = np.concatenate([sample, others])
    model = against.checker.model
    return calibrate_on(fetched, fetched.items(sample), rows, model, _SEED, against.pipeline).calibration


def _guard(fetched: "Index", near: Calibration | None, against: Against) -> LeakageGuard:
    assert against.excluded is not None
    plan = against.index.plan.encoder
    short_side = Preprocessing.from_dict(plan.preprocessing).resize_short_side
    copies = None
    if near is not None:
        copies = near_copies(against.excluded, against.index, against.checker.model, near, against.pipeline)
    pipeline = against.pipeline
    return LeakageGuard(against.excluded, fetched, short_side, pipeline.max_pixels, copies, pipeline.threads)
