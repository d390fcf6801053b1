"""What a transfer set's embeddings say about it: how many directions it spans, and which images are odd."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.selection.background import sample_pool
from curate.selection.queries import QuerySet
from curate.selection.selection import Selection
from curate.transfer_set.saturation import saturation_of
from transferset.vectors import unit

if TYPE_CHECKING:
    from curate.index.index import Index

MOST_ROWS = 5_000
ODD_FROM = 8
"""A class with fewer images has no odd ones."""
_BLOCK = 8_192
_ODD_SPREADS = 3.0


@dataclass(frozen=True)
class Span:
    """How many directions images spread over: `effective_rank`, and `spectrum`, the share of the variance in
    each direction, largest first; measured on `images` images."""

    images: int
    effective_rank: float
    spectrum: np.ndarray


@dataclass(frozen=True)
class Closeness:
    """The images of a class, `positions` (n,) int64 from the furthest to the closest, with their mean cosine
    to the class's other images (n,); the first `odd` of them stand out."""

    positions: np.ndarray
    cosines: np.ndarray
    odd: int


@dataclass(frozen=True)
class Measures:
    """`span` is the set's, `pool_span` that of as many random images of the pool; `closeness` by label (None:
    one class, or drawn for no query)."""

    span: Span
    pool_span: Span
    closeness: dict[str | None, Closeness]


def measure(index: "Index", query_set: QuerySet, selection: Selection, seed: int) -> Measures:
    """Measure a selection; of a large one the span of a seeded sample. Memory is bounded: rows are read in
    blocks."""
    positions = np.array([pick.position for pick in selection.picks], dtype=np.int64)
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(positions, min(MOST_ROWS, len(positions)), replace=False))
    others = sample_pool(index, len(chosen), seed + 1)
    labels = query_set.labels
    by_label: dict[str | None, list[int]] = {}
    for pick in selection.picks:
        by_label.setdefault(None if pick.query is None else labels[pick.query], []).append(pick.position)
    return Measures(
        measure_span(unit(index.vectors(chosen))),
        measure_span(unit(index.vectors(others))),
        {label: _closeness(index, np.array(own, dtype=np.int64)) for label, own in by_label.items()},
    )


def describe_measures(measures: Measures, selection: Selection) -> dict[str, Any]:
    """The numbers for the manifest; `saturation` is None where chance was not measured."""
    saturation = saturation_of(selection)
    odd = {label: one.odd for label, one in measures.closeness.items() if label is not None and one.odd}
    return {
        "effective_rank": measures.span.effective_rank,
        "effective_rank_random": measures.pool_span.effective_rank,
        "odd_images": odd,
        "saturation": None if saturation is None else saturation.to_dict(),
    }


def measure_span(vectors: np.ndarray) -> Span:
    """The effective rank of vectors (n, d) float32: exp of the entropy of their covariance's eigenvalues,
    normalised to sum 1. It is 1 for copies of two images and n - 1 for n images that have nothing in common.

    Method: O. Roy, M. Vetterli, "The effective rank" (EUSIPCO 2007), on eigenvalues of the covariance.
    """
    count = len(vectors)
    if count < 2:
        return Span(count, 1.0, np.ones(1))
    centred = vectors - vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    gram = centred @ centred.T if count < vectors.shape[1] else centred.T @ centred
    values = np.linalg.eigvalsh(gram.astype(np.float64))[::-1].clip(min=0)
    total = values.sum()
    if total <= 1e-6:
        return Span(count, 1.0, np.ones(1))
    shares = values[values > 1e-7 * values[0]] / total
    entropy = -float(np.sum(shares * np.log(shares)))
    return Span(count, round(float(np.exp(entropy)), 1), shares)


def _closeness(index: "Index", positions: np.ndarray) -> Closeness:
    """Mean cosine of each image to the others: the sum of all of them, without itself, times it."""
    total = np.zeros(index.dimension)
    for start in range(0, len(positions), _BLOCK):
        total += unit(index.vectors(positions[start : start + _BLOCK])).sum(axis=0, dtype=np.float64)
    cosines = np.empty(len(positions))
    for start in range(0, len(positions), _BLOCK):
        block = unit(index.vectors(positions[start : start + _BLOCK]))
        cosines[start : start + _BLOCK] = (block @ total - 1) / max(1, len(positions) - 1)
    cosines = cosines.round(4)
    order = np.lexsort((positions, cosines))
    return Closeness(positions[order], cosines[order], count_odd(cosines))


def count_odd(cosines: np.ndarray) -> int:
    """How many of a class's images stand out: their mean cosine (n,) to the others lies more than three
    standard deviations below the median, with the deviation estimated from the median absolute one."""
    if len(cosines) < ODD_FROM:
        return 0
    middle = float(np.median(cosines))
    spread = 1.4826 * float(np.median(np.abs(cosines - middle)))
    return int(np.count_nonzero(cosines < middle - _ODD_SPREADS * max(spread, 0.005)))
