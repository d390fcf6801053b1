"""Cosines of copies with their originals, and of images that are no copies: thresholds come from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.encoding.edits import SLIGHT, edited_copies
from curate.encoding.pipeline import PipelineOptions
from curate.encoding.views import embed_pictures, embed_views
from curate.index.index import Index
from curate.index.part import ItemRow
from curate.selection.near_copies import DECIMALS, best_cosines, pool_bytes, sketch_of
from curate.selection.thresholds import Thresholds
from curate.selection.whitening import Whitening
from transferset.alignment import SAME_PICTURE, agreement
from transferset.errors import DataError
from transferset.images import decode
from transferset.models.runtime import FrozenModel
from transferset.parallel import ordered_map

_BLOCK = 2_048
_MISSED_COPIES = 0.002
_MISSED_DUPLICATES = 0.01
_SUSPECTED = 2.5e-4


@dataclass(frozen=True)
class Measured:
    """Cosines of edited copies and of images that are no copies; `images`: how many were embedded for them.

    `strong`: whitened, of copies with the nearest view of their original; `slight`: of copies with the
    original itself; `pairs` (rows, images): whitened, of pool items with the nearest view of each sampled
    image; `nearest`: of sampled images with their nearest neighbour. Copies that the pool has of the sampled
    images are left out (NaN) of the last two.
    """

    strong: np.ndarray
    slight: np.ndarray
    pairs: np.ndarray
    nearest: np.ndarray
    images: int

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


def measure(
    index: Index,
    items: Sequence[ItemRow],
    positions: np.ndarray,
    whitening: Whitening,
    model: FrozenModel,
    seed: int,
    pipeline: PipelineOptions,
) -> Measured:
    """Embed views and edited copies of items of the pool, and compare them with these and with the rows at
    `positions` (n,) int64. Raises DataError: an image can't be decoded any more."""
    views, copies = _embed(index, model, items, seed, pipeline)
    cut = len(SLIGHT)
    white = whitening.apply(views)
    slight = [some[:cut] @ own[0] for some, own in zip(copies, views, strict=True)]
    strong = [
        (whitening.apply(some[cut:]) @ own.T).max(axis=1) for some, own in zip(copies, white, strict=True)
    ]
    pairs, nearest = _innocents(index, items, views, white, positions, whitening, pipeline)
    count = sum(len(one) for one in (*views, *copies))
    return Measured(np.concatenate(strong), np.concatenate(slight), pairs, nearest, count)


def _embed(
    index: Index, model: FrozenModel, items: Sequence[ItemRow], seed: int, pipeline: PipelineOptions
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The unit vectors of the items' views (n, COPY_VIEWS, d), and of each item's edited copies, slight ones
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
        rows = index.vectors(positions[some])
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

    workers = pipeline.threads
    pairs = zip(sampled, index.items(neighbours), strict=True)
    return np.fromiter(ordered_map(same, pairs, workers, 2 * workers), bool, len(sampled))
