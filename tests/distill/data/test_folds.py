import numpy as np
import pytest

from distill.data.folds import stratified_folds


@pytest.mark.parametrize("counts", [[10, 10, 10], [5, 3, 1], [1, 1, 1, 1], [50, 7, 2]])
def test_classes_are_spread_evenly(counts: list[int]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    folds = stratified_folds(labels, 5, seed=0)
    for label in range(len(counts)):
        sizes = np.bincount(folds[labels == label], minlength=5)
        assert sizes.max() - sizes.min() <= 1
    sizes = np.bincount(folds, minlength=5)
    assert sizes.max() - sizes.min() <= 1


def test_seeds_deal_differently() -> None:
    labels = np.repeat(np.arange(4), 10)
    assert np.array_equal(stratified_folds(labels, 5, 0), stratified_folds(labels, 5, 0))
    assert not np.array_equal(stratified_folds(labels, 5, 0), stratified_folds(labels, 5, 1))
