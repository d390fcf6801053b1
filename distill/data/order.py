"""The order of samples as arithmetic: which sample stands at position p of an endless run."""

import threading
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
_ONE_AT_A_TIME = threading.Lock()


def _mix(values: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser, a bijection of uint64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number
    Generators", 2014). Own lines and not numpy.random, whose streams may change between versions."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of `count` samples in one epoch: (count,) int64, read-only, the same on every machine.

    Threads that need it at the same time, as all readers do when an epoch begins, wait for the one that
    computes it.
    """
    with _ONE_AT_A_TIME:
        return _permutation(count, seed, epoch)


@lru_cache(maxsize=4)
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    start = _mix(np.array([(seed * _GOLDEN + epoch + 1) & _MASK], dtype=np.uint64))
    start = _mix(start + np.uint64(epoch & _MASK))
    keys = _mix(np.arange(count, dtype=np.uint64) * np.uint64(_GOLDEN) + start)
    order = np.argsort(keys, kind="stable")
    order.flags.writeable = False
    return order


@dataclass(frozen=True)
class Order:
    """Positions 0, 1, 2, … of a run over `count` samples: every epoch is a permutation, epochs follow without
    a gap.

    A batch may span two epochs; resuming needs only the position.
    """

    count: int
    seed: int

    def locate(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n,) int64 positions -> (n,) epochs and (n,) sample indices."""
        epochs, offsets = np.divmod(np.asarray(positions, dtype=np.int64), self.count)
        indices = np.empty_like(offsets)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            indices[here] = permutation(self.count, self.seed, int(epoch))[offsets[here]]
        return epochs, indices

    def batch(self, step: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Epochs and sample indices, each (size,), of the batch that step `step` (from 0) consumes."""
        return self.locate(np.arange(step * size, (step + 1) * size, dtype=np.int64))
