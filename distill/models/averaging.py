"""Several answers about the same images as one: the mean of their probabilities."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from distill.data.teacher_outputs import Answers
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


def over_mirror_images(plain: Answers, classes: int) -> Answers:
    """The answer to an image and its mirror image as one, for two looks: the probabilities of the `classes`,
    which come first, are averaged, as logits whose log-sum-exp is the mean of both.

    Features behind them are those of the image as it is. A class is the same either way round, which is why
    its average is the better answer; features may tell left from right, and a student is to match them on the
    image that it is shown.
    """

    def of_both(images: np.ndarray) -> np.ndarray:
        shown, mirrored = plain.ask(images), plain.ask(images[:, :, ::-1])
        logits = [shown[:, :classes], mirrored[:, :classes]]
        size = np.mean([np.logaddexp.reduce(one.astype(np.float64), axis=1) for one in logits], axis=0)
        averaged = log_mean_probabilities(logits, (1.0, 1.0)) + size[:, None].astype(np.float32)
        return np.concatenate([averaged, shown[:, classes:]], axis=1)

    return replace(plain, ask=of_both, flops_per_image=2 * plain.flops_per_image)
