"""Rows of a long list by what they have in common: one sort, and no Python object for a row."""

import numpy as np


def groups_of(column: np.ndarray) -> list[np.ndarray]:
    """The rows of every value of a column, in ascending order of the values and then of the rows."""
    return groups(np.argsort(column, kind="stable"), column)


def begins(order: np.ndarray, *columns: np.ndarray) -> np.ndarray:
    """(n,) bool: where in `order`, which sorts the columns, a row differs from the one before."""
    found = np.zeros(len(order), dtype=bool)
    found[:1] = True
    for column in columns:
        ordered = column[order]
        found[1:] |= ordered[1:] != ordered[:-1]
    return found


def groups(order: np.ndarray, column: np.ndarray) -> list[np.ndarray]:
    """`order`, which sorts the column, cut where the value changes: the rows of every value."""
    return np.split(order, np.flatnonzero(begins(order, column))[1:]) if len(order) else []
