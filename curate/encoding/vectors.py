"""Features as vectors that can be compared."""

import numpy as np

from transferset.errors import NumericError


def unit_rows(features: np.ndarray, encoder: object) -> np.ndarray:
    """Rows scaled to length 1 in float32; a row of zeros stays.

    Args:
        features: (n, d).
        encoder: named in the error.

    Raises:
        NumericError: a feature is not finite.
    """
    rows = np.asarray(features, np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.isfinite(norms).all():
        raise NumericError(
            f"the encoder {encoder} gave features that are not finite",
            "its weights may be damaged; try another",
        )
    return np.asarray(rows / np.where(norms > 0, norms, 1), np.float32)
