import numpy as np
import pytest

from transferset.grouping import begins, groups_of


@pytest.mark.parametrize("count", [0, 1, 500])
def test_groups_are_the_rows_of_every_value(count: int) -> None:
    column = np.random.default_rng(0).integers(0, 9, count)
    found = groups_of(column)
    expected = [np.flatnonzero(column == value) for value in np.unique(column)]
    assert [rows.tolist() for rows in found] == [rows.tolist() for rows in expected]


def test_a_group_begins_where_any_column_changes() -> None:
    first, second = np.array([1, 0, 1, 0, 1]), np.array([5, 5, 5, 5, 6])
    order = np.lexsort((second, first))
    assert order.tolist() == [1, 3, 0, 2, 4]
    assert begins(order, first, second).tolist() == [True, False, True, False, True]
