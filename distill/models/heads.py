"""Linear heads on a frozen model's features: logistic regression, and the temperature of its logits."""

import functools
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from distill.metrics import log_softmax
from transferset.errors import DataError, NumericError
from transferset.writes import write_bytes

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

ClassWeight = Literal["none", "balanced"]
CLASS_WEIGHTS: tuple[str, ...] = get_args(ClassWeight)

_LOG_TEMPERATURES = (-7.0, 7.0)
_MAX_ITERATIONS = 2000
# Below this many products a threaded BLAS waits longer for its threads than it computes (30 times, measured).
_SERIAL_PRODUCTS = 1 << 28


@dataclass(frozen=True, eq=False)
class LinearHead:
    """`weight` (C, d) and `bias` (C,) float32 act on features, which are brought to `unit_length` first (or
    not: then weight and bias are those of a plain linear layer); `temperature` divides the logits."""

    weight: np.ndarray
    bias: np.ndarray
    temperature: float = 1.0
    unit_length: bool = True

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Calibrated logits (n, C) float32 of features (n, d) as the model gives them."""
        rows = features.astype(np.float32)
        raw = (normalised(rows) if self.unit_length else rows) @ self.weight.T + self.bias
        return np.asarray(raw / np.float32(self.temperature), dtype=np.float32)

    def at(self, temperature: float) -> "LinearHead":
        """The same head with another temperature."""
        return replace(self, temperature=temperature)


def blended(first: LinearHead, second: LinearHead, share: float) -> LinearHead:
    """The head whose logits are (1 - share) times those of `first` and share times those of `second`."""
    one, other = np.float32((1 - share) / first.temperature), np.float32(share / second.temperature)
    weight = one * first.weight + other * second.weight
    return LinearHead(weight, one * first.bias + other * second.bias, unit_length=first.unit_length)


def normalised(features: np.ndarray) -> np.ndarray:
    """Rows of length one (a row of zeros stays)."""
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    rows: np.ndarray = features / np.maximum(norms, np.finfo(np.float32).tiny)
    return rows


def image_weights(labels: np.ndarray, kind: str) -> np.ndarray:
    """What each image (n,) counts, mean 1: `none` every image the same, `balanced` every class the same."""
    if kind == "none":
        return np.ones(len(labels))
    counts = np.bincount(labels)
    weights: np.ndarray = len(labels) / (np.count_nonzero(counts) * counts[labels])
    return weights


def fit_heads(
    features: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    strengths: Sequence[float],
    classes: int,
    unit_length: bool = True,
) -> Iterator[LinearHead]:
    """A head for every strength, weakest first: multinomial logistic regression with L2 penalty,
    scikit-learn's, each fit starting from the one before.

    `features` (n, views, d) as the model gives them; every view of an image counts as a share of it. `labels`
    (n,) must hold every number below `classes`; `weights` (n,) as `image_weights` gives them. Features are
    L2-normalised if `unit_length`, centred and scaled to unit mean square length, so that one grid of
    strengths (scikit-learn's C: larger means less penalty) suits every model; centre and scale then go into
    the head.
    Raises NumericError for features that are not finite.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    _, views, dimension = features.shape
    if not np.isfinite(features).all():
        raise NumericError("the features are not finite", hint="run the model with --precision fp32")
    shares = np.repeat(weights / views, views)
    rows = features.reshape(-1, dimension)
    rows = normalised(rows) if unit_length else rows
    centre = np.average(rows, axis=0, weights=shares)
    rows = (rows - centre).astype(np.float32)
    scale = float(np.sqrt(np.average(np.einsum("nd,nd->n", rows, rows), weights=shares))) or 1.0
    rows /= np.float32(scale)
    model = LogisticRegression(max_iter=_MAX_ITERATIONS, warm_start=True)
    for strength in strengths:
        with _threads(rows.size * classes), warnings.catch_warnings():
            # A weak penalty on separable classes has no end; where it stops is as good a head.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.set_params(C=strength).fit(rows, np.repeat(labels, views), sample_weight=shares)
        weight = model.coef_.astype(np.float64) / scale
        bias = model.intercept_ - weight @ centre
        if classes == 2:  # one logit, that of the second class against the first
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        layer = np.ascontiguousarray(weight, np.float32), np.ascontiguousarray(bias, np.float32)
        yield LinearHead(*layer, unit_length=unit_length)


def _threads(products: int) -> AbstractContextManager[object]:
    limit: AbstractContextManager[object] = _blas().limit(
        limits=1 if products < _SERIAL_PRODUCTS else None, user_api="blas"
    )
    return limit


@functools.cache
def _blas() -> "ThreadpoolController":
    """Looking for the loaded libraries takes longer than a small fit."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def fit_temperature(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """The temperature that suits held-out logits (n, C) best, and the loss there (see `smoothed_loss`).

    Temperature scaling: C. Guo et al., "On Calibration of Modern Neural Networks" (2017).
    """
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda log_temperature: smoothed_loss(logits / np.exp(log_temperature), labels, weights),
        bounds=_LOG_TEMPERATURES,
        method="bounded",
        options={"xatol": 1e-4},
    )
    return float(np.exp(found.x)), float(found.fun)


def smoothed_loss(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    """Weighted mean cross-entropy, nats, whose targets leave 1 / (n + 2) to the other classes.

    J. Platt, "Probabilistic Outputs for Support Vector Machines" (1999): n images that are all told right do
    not prove that none will be told wrong. Without it the best temperature of such a set is 0.
    """
    count, classes = logits.shape
    others = 1 / (count + 2)
    log_probabilities = log_softmax(logits)
    own = log_probabilities[np.arange(count), labels]
    rest = (log_probabilities.sum(axis=1) - own) / max(1, classes - 1)
    return float(np.average(-(1 - others) * own - others * rest, weights=weights))


def write_head(path: Path, head: LinearHead) -> None:
    """Write the head as safetensors: `weight`, `bias`, `temperature`."""
    from safetensors.numpy import save

    tensors = {"weight": head.weight, "bias": head.bias, "temperature": np.array([head.temperature])}
    # safetensors 0.8 writes an array of another memory order as if it were in C order.
    write_bytes(path, save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}))


def read_head(path: Path) -> LinearHead:
    """The inverse of `write_head`; DataError where the file is missing, damaged or no head."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(path.read_bytes())
        weight, bias, temperature = (tensors[name] for name in ("weight", "bias", "temperature"))
    except (OSError, SafetensorError, KeyError) as error:
        raise DataError(
            f"{path} is not the head of a teacher: {error}", hint="adapt the teacher again"
        ) from error
    if (
        weight.ndim != 2
        or bias.shape != weight.shape[:1]
        or temperature.shape != (1,)
        or not temperature[0] > 0
    ):
        raise DataError(f"{path} is not the head of a teacher: its shapes don't fit", hint="adapt it again")
    return LinearHead(weight, bias, float(temperature[0]))
