"""Vectors that are compared by their cosines."""

import numpy as np


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (…, d) at length 1, float32; a zero one stays. Reckoned in float32, float64 ones in float64."""
    precise = np.asarray(vectors, np.promote_types(vectors.dtype, np.float32))
    lengths = np.linalg.norm(precise, axis=-1, keepdims=True)
    return np.asarray(precise / np.where(lengths > 0, lengths, 1), np.float32)
