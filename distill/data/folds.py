"""Stratified folds for small labelled sets without a val split."""

import hashlib

import numpy as np


def stratified_folds(labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold (0 … folds - 1) in which each of n images is held out, (n,) int64.

    Every class is dealt out evenly in a seeded order, and each class goes on where the one before it stopped,
    so that folds differ by at most one image of a class and in all.

    Not scikit-learn's StratifiedKFold: that refuses sets whose classes all have fewer images than there are
    folds, and a resumed run must find its folds again with any version of a library.
    """
    fold = np.empty(len(labels), dtype=np.int64)
    dealt = 0
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        keys = [
            hashlib.blake2b(f"{seed} {label} {place}".encode(), digest_size=8).digest()
            for place in range(len(rows))
        ]
        order = sorted(range(len(rows)), key=keys.__getitem__)
        fold[rows[order]] = (dealt + np.arange(len(rows))) % folds
        dealt += len(rows)
    return fold
