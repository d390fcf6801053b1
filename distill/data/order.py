"""The order of samples as arithmetic: which sample stands at position p of an endless run."""

import threading
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from transferset.shuffle import STEP, mix

_MASK = (1 << 64) - 1
_ONE_AT_A_TIME = threading.Lock()


def permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order of `count` samples in one epoch: (count,) int64, read-only, the same on every machine.

    Threads that need it at the same time, as all readers do when an epoch begins, wait for the one that
    computes it.
    """
    with _ONE_AT_A_TIME:
        return _permutation(count, seed, epoch)


@lru_cache(maxsize=4)
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    start = mix(np.array([(seed * STEP + epoch + 1) & _MASK], dtype=np.uint64))
    start = mix(start + np.uint64(epoch & _MASK))
    keys = mix(np.arange(count, dtype=np.uint64) * np.uint64(STEP) + start)
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
