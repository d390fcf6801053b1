"""Features as vectors that can be compared."""

import numpy as np

from transferset.errors import NumericError
from transferset.vectors import unit


def unit_rows(features: np.ndarray, encoder: object) -> np.ndarray:
    """Rows scaled to length 1 in float32; a row of zeros stays.

    Args:
        features: (n, d).
        encoder: named in the error.

    Raises:
        NumericError: a feature is not finite.
    """
    rows = np.asarray(features, np.float32)
    if not np.isfinite(np.linalg.norm(rows, axis=1)).all():
        raise NumericError(
            f"the encoder {encoder} gave features that are not finite",
            "its weights may be damaged; try another",
        )
    return unit(rows)
