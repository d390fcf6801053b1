"""What chance gives: seeded samples of the pool, and how similar random images are to the queries."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from curate.index.numbering import Numbering
from transferset.vectors import unit

if TYPE_CHECKING:
    from curate.index.index import Index

SAMPLE = 2_000
"""Pool images that stand for all of them: a mean of cosines is then known to a few thousandths."""
EDGES = np.linspace(-1, 1, 101)
"""Edges of the bins in which similarities are counted."""
_QUERIES_AT_ONCE = 256


@dataclass(frozen=True)
class Background:
    """Cosines between the queries and `images` random images of the pool.

    `mean` and `spread` (standard deviation) have an entry a query; `histogram` counts all pairs in the bins
    between `EDGES`.
    """

    images: int
    mean: tuple[float, ...]
    spread: tuple[float, ...]
    histogram: tuple[int, ...]


def sample_pool(index: "Index", amount: int, seed: int) -> np.ndarray:
    """Positions (n,) int64, ascending, of up to `amount` distinct items, uniformly drawn from the index;
    forgotten items are not drawn."""
    numbering = Numbering(index.parts)
    rng = np.random.default_rng(seed)
    spare = amount // 8 + 64
    rows = rng.choice(numbering.total, min(numbering.total, amount + spare), replace=False)
    drawn = (index.find(item.item_id) for item in index.items(numbering.positions(rows)))
    found = list(dict.fromkeys(position for position in drawn if position is not None))
    return np.sort(np.array(found[:amount], dtype=np.int64))


def measure_background(index: "Index", queries: np.ndarray, seed: int) -> Background:
    """The similarity of `queries` (q, d) float32, of length 1, to random images of the pool."""
    images = unit(index.vectors(sample_pool(index, SAMPLE, seed)))
    mean, spread = np.zeros(len(queries)), np.zeros(len(queries))
    histogram = np.zeros(len(EDGES) - 1, dtype=np.int64)
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        cosines = np.clip(queries[start : start + _QUERIES_AT_ONCE] @ images.T, -1, 1)
        if cosines.size:
            mean[start : start + len(cosines)] = cosines.mean(axis=1, dtype=np.float64)
            spread[start : start + len(cosines)] = cosines.std(axis=1, dtype=np.float64)
        histogram += np.histogram(cosines, EDGES)[0]
    return Background(
        len(images),
        tuple(mean.round(4).tolist()),
        tuple(spread.round(4).tolist()),
        tuple(histogram.tolist()),
    )
