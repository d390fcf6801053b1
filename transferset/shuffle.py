"""The mixing of numbers that seeded orders are made of."""

import numpy as np

STEP = 0x9E3779B97F4A7C15
"""Of SplitMix64 from one number to the next, 2**64 over the golden ratio."""


def mix(values: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser, a bijection of uint64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number
    Generators", 2014). Own lines and not numpy.random, whose streams may change between versions."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
