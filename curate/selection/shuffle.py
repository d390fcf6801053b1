"""A seeded order of items that depends on nothing but the seed and their ids."""

import numpy as np

from transferset.shuffle import STEP, mix

_MASK = (1 << 64) - 1


def shuffle_keys(item_ids: np.ndarray, seed: int) -> np.ndarray:
    """Sort keys (n,) uint64 for item ids (n, 16) uint8: ordering by them is a seeded shuffle that neither
    the order of the rows nor what else is in the pool can change.

    Method: SplitMix64's finaliser (Steele, Lea, Flood 2014) over both halves of the id, keyed by the seed.
    """
    halves = np.ascontiguousarray(item_ids).view("<u8").reshape(len(item_ids), 2)
    key = np.uint64((seed * STEP + STEP) & _MASK)
    with np.errstate(over="ignore"):
        return _mix(halves[:, 0] ^ _mix(halves[:, 1] ^ _mix(np.full(len(halves), key, dtype=np.uint64))))


def _mix(value: np.ndarray) -> np.ndarray:
    return mix(value + np.uint64(STEP))
