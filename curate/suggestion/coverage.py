"""Images that stand best for the others: greedy facility location, from what the labelled ones cover."""

import heapq
from dataclasses import dataclass

import numpy as np

_BLOCK = 512
_DECIMALS = 5
_DRAWS = 20


@dataclass(frozen=True)
class Coverage:
    """What greedy facility location chose.

    Attributes:
        chosen: numbers (n,) of the chosen candidates, the most useful first.
        gains: how much each raised the mean coverage (n,) when it was chosen.
        stands_for: how many candidates have it as their nearest image, labelled ones included (n,).
        curve: the mean coverage with the labelled images alone and after each choice (n + 1,).
        random: the mean coverage of as many random candidates with the labelled images.
    """

    chosen: np.ndarray
    gains: np.ndarray
    stands_for: np.ndarray
    curve: np.ndarray
    random: float


def cover(candidates: np.ndarray, labelled: np.ndarray, count: int, seed: int = 0) -> Coverage:
    """Choose up to `count` of `candidates` (n, d) that with `labelled` (m, d) cover the candidates best.

    Rows are float32 of length 1. An image's coverage is its cosine (0 at least) to the nearest other image
    that is labelled or chosen; each choice raises the mean over all candidates most, so what is typical of
    many and far from what is labelled or chosen comes first. That an image covers itself doesn't count: else
    the oddest would be chosen for nothing but being odd. Equal gains: the smaller number.

    Method: facility location, whose greedy solution reaches 1 - 1/e of the best one (Nemhauser, Wolsey,
    Fisher 1978), with lazy evaluation (Minoux 1978); for choosing what to label: Wei, Iyer, Bilmes,
    "Submodularity in Data Subset Selection and Active Learning" (ICML 2015). Memory: n² float32.
    """
    total = len(candidates)
    similarity = np.empty((total, total), dtype=np.float32)
    covered = np.zeros(total, dtype=np.float32)
    for start in range(0, total, _BLOCK):
        block = candidates[start : start + _BLOCK]
        similarity[start : start + _BLOCK] = _cosines(block, candidates)
        for first in range(0, len(labelled), _BLOCK):
            near = _cosines(block, labelled[first : first + _BLOCK]).max(axis=1)
            covered[start : start + _BLOCK] = np.maximum(covered[start : start + _BLOCK], near)
    np.fill_diagonal(similarity, 0)
    chosen = _greedy(similarity, covered, min(count, total))
    curve = _curve(similarity, covered, chosen)
    return Coverage(
        np.array(chosen, dtype=np.int64),
        np.diff(curve),
        _stands_for(similarity, covered, chosen),
        curve,
        _random_coverage(similarity, covered, len(chosen), seed),
    )


def _cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Cosines (n, m), 0 at least, rounded so that the library's order of adding doesn't tell."""
    return np.round(np.maximum(one @ other.T, 0), _DECIMALS)


def _greedy(similarity: np.ndarray, at_first: np.ndarray, count: int) -> list[int]:
    """The choices. Gains only shrink, so a candidate whose old gain is below another's new one need not be
    looked at. What is chosen needs no cover any more, and so draws no twin of itself."""
    covered = at_first.copy()
    heap = [(-_gain(similarity[one], covered), one, 0) for one in range(len(similarity))]
    heapq.heapify(heap)
    chosen: list[int] = []
    while len(chosen) < count:
        _, one, seen = heapq.heappop(heap)
        if seen < len(chosen):
            heapq.heappush(heap, (-_gain(similarity[one], covered), one, len(chosen)))
            continue
        chosen.append(one)
        np.maximum(covered, similarity[one], out=covered)
        covered[one] = 1
    return chosen


def _curve(similarity: np.ndarray, at_first: np.ndarray, chosen: list[int]) -> np.ndarray:
    covered = at_first.copy()
    means = [covered.mean(dtype=np.float64)]
    for one in chosen:
        np.maximum(covered, similarity[one], out=covered)
        means.append(covered.mean(dtype=np.float64))
    return np.array(means)


def _gain(row: np.ndarray, covered: np.ndarray) -> float:
    return round(float(np.maximum(row - covered, 0).sum(dtype=np.float64)), _DECIMALS)


def _stands_for(similarity: np.ndarray, at_first: np.ndarray, chosen: list[int]) -> np.ndarray:
    if not chosen:
        return np.zeros(0, dtype=np.int64)
    near = similarity[chosen]
    nearest, best = near.argmax(axis=0), near.max(axis=0)
    return np.bincount(nearest[best > at_first], minlength=len(chosen))


def _random_coverage(similarity: np.ndarray, at_first: np.ndarray, count: int, seed: int) -> float:
    """The mean over seeded draws."""
    rng = np.random.default_rng(seed)
    found = [
        np.maximum(similarity[rng.choice(len(similarity), count, replace=False)].max(axis=0), at_first).mean()
        for _ in range(_DRAWS if count else 0)
    ]
    return float(np.mean(found)) if found else float(at_first.mean())
