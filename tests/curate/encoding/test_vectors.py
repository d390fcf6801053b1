import numpy as np
import pytest

from curate.encoding.vectors import unit_rows
from transferset.errors import NumericError


def test_rows_get_length_one_and_zeros_stay() -> None:
    rows = unit_rows(np.array([[0.0, 0.0], [3.0, 4.0]]), "toy")
    assert rows.dtype == np.float32
    assert np.array_equal(rows, np.float32([[0, 0], [0.6, 0.8]]))


def test_features_that_are_not_finite_are_a_numeric_error() -> None:
    with pytest.raises(NumericError, match="the encoder toy gave features that are not finite"):
        unit_rows(np.array([[1.0, np.nan]]), "toy")
