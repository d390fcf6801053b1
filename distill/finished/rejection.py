"""When an image is none of the classes: a threshold under which most images of a random pool fall."""

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logsumexp

from distill.data.image_stream import ImageRef, Streaming
from distill.export.format import INT8
from distill.loop.run_directory import RESTORE, read_object
from transferset.errors import DataError, NumericError
from transferset.lock import DirectoryLock
from transferset.progress import progress
from transferset.writes import write_json

REJECTION = "rejection.json"
SCORE = "log-sum-exp of the logits"
_FORMAT_VERSION = 1


@dataclass(frozen=True)
class Rejection:
    """Images whose `score` is below `threshold` are rejected: the share `quantile` of `images` random ones
    of `pool`, drawn by `seed`. `precision` (f32, int8) and `weights_sha256` say which model it is for."""

    score: str
    threshold: float
    quantile: float
    images: int
    unreadable: int
    pool: tuple[str, ...]
    seed: int
    precision: str
    weights_sha256: str | None

    def rejects(self, logits: np.ndarray) -> np.ndarray:
        """(n,) bool of logits (n, C)."""
        below: np.ndarray = scores(logits) < self.threshold
        return below


def scores(logits: np.ndarray) -> np.ndarray:
    """How much an image looks like any of the classes, (n,) of logits (n, C): their log-sum-exp, the negative
    free energy.

    W. Liu et al., "Energy-based Out-of-distribution Detection" (2020). On a first student of ours it told
    task images from pool images better than the largest probability or logit.
    """
    values: np.ndarray = logsumexp(logits.astype(np.float64), axis=1)
    return values


def threshold_of(values: np.ndarray, quantile: float) -> float:
    """The score below which the share `quantile` of random images not among these falls, on average, given
    the scores (n,) of a sample: that of rank ⌈(n + 1) quantile⌉, as in conformal prediction (V. Vovk et al.,
    "Algorithmic Learning in a Random World", 2005); the largest where n is too small."""
    rank = min(len(values), math.ceil((len(values) + 1) * quantile))
    return float(np.sort(values)[max(rank, 1) - 1])


def draw(images: Iterable[ImageRef | None], count: int, seed: int) -> list[ImageRef]:
    """`count` random ones of any number of images (all, if there are no more), each as likely as the others.

    Reservoir sampling (algorithm R: J. S. Vitter, "Random sampling with a reservoir", 1985).
    """
    generator = random.Random(seed)
    drawn: list[ImageRef] = []
    for number, image in enumerate(image for image in images if image and image.problem is None):
        if number < count:
            drawn.append(image)
        elif (place := generator.randrange(number + 1)) < count:
            drawn[place] = image
    return drawn


def pool_scores(
    logits: Callable[[np.ndarray], np.ndarray], images: list[ImageRef], streaming: Streaming
) -> np.ndarray:
    """Scores (n,) of the readable images. Raises DataError if there is none, NumericError for logits that
    are not finite."""
    found: list[np.ndarray] = []
    with progress("fit rejection", len(images), "images") as bar:
        for batch in streaming.batches(images):
            if len(batch.pixels):
                found.append(scores(logits(batch.pixels)))
            bar.advance(len(batch.images))
    if not found:
        raise DataError("none of the images of --reject-from can be read")
    values = np.concatenate(found)
    if not np.isfinite(values).all():
        raise NumericError("the model gives logits that are not finite on images of --reject-from")
    return values


def precision_of(name: str) -> str:
    """Of a model file of an export."""
    return "int8" if name == INT8 else "f32"


def write_rejection(directory: Path, rejection: Rejection) -> None:
    """Keep it in an export, beside the model."""
    with DirectoryLock(directory):
        write_json(directory / REJECTION, {"format_version": _FORMAT_VERSION, **asdict(rejection)})


def read_rejection(directory: Path, precision: str, weights_sha256: str) -> Rejection | None:
    """The rejection that an export holds; None: none was fitted.

    Raises DataError where it is damaged or was fitted with another model.
    """
    path = directory / REJECTION
    if not path.exists():
        return None
    found: dict[str, Any] = read_object(path)
    try:
        version = found.pop("format_version")
        rejection = Rejection(
            **{**found, "pool": tuple(found["pool"]), "threshold": float(found["threshold"])}
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error}", hint=RESTORE) from error
    if version != _FORMAT_VERSION or rejection.score != SCORE:
        raise DataError(f"{path} was written by another version", hint="fit it again with --reject-from")
    if (rejection.precision, rejection.weights_sha256) != (precision, weights_sha256):
        raise DataError(
            f"{path} was fitted with another model ({rejection.precision})",
            hint="fit it for this one with --reject-from, or predict with --no-reject",
        )
    return rejection
