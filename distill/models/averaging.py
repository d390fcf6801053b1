"""Several answers about the same images as one: the mean of their probabilities."""

from collections.abc import Sequence

import numpy as np

from distill.metrics import log_softmax


def log_mean_probabilities(logits: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """The logarithm of the mean of the class probabilities, weighted by `weights`, that belong to some logits
    (n, C) each -> (n, C) float32. Averaging after the softmax, a teacher that is sure is not outvoted by the
    mere size of another's logits."""
    shares = np.log(np.asarray(weights, np.float64) / np.sum(weights))
    terms = np.stack(
        [log_softmax(one.astype(np.float64)) + share for one, share in zip(logits, shares, strict=True)]
    )
    largest = terms.max(axis=0)
    mean = largest + np.log(np.exp(terms - largest).sum(axis=0))
    return np.asarray(mean, dtype=np.float32)
