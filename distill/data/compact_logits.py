"""Logits of a teacher in few bytes: log-probabilities in float16, of all classes or of the largest and the
rest.

float16 has 11 bits: near 0, where the probable classes are, a log-probability is kept to about 5e-4 of its
size; logits as they come, whatever is common to them, would spend these bits on it. What is common is kept
apart in float32.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from transferset.errors import UsageError

FULL_UP_TO = 256
TOP_K = 64
_LEAST = -10_000.0

Compact = dict[str, np.ndarray]


@dataclass(frozen=True)
class LogitFormat:
    """`classes` C; `top` k: how many of them are kept, None: all."""

    classes: int
    top: int | None = None

    @property
    def width(self) -> int:
        """Columns of `targets`: C log-probabilities; or k classes, their k log-probabilities, the rest's."""
        return self.classes if self.top is None else 2 * self.top + 1

    @property
    def bytes_per_view(self) -> int:
        """Of a row on disk."""
        row = encode(np.zeros((1, self.classes), np.float32), self)
        return sum(tensor.nbytes for tensor in row.values())


def logit_format(classes: int, top: int | None = None) -> LogitFormat:
    """All classes up to 256, else the 64 largest; `top`: that many. UsageError where it is not positive."""
    if top is None:
        top = None if classes <= FULL_UP_TO else TOP_K
    elif top < 1:
        raise UsageError(f"--top-k {top} must be at least 1")
    return LogitFormat(classes, None if top is None or top >= classes else top)


def encode(logits: np.ndarray, layout: LogitFormat) -> Compact:
    """(n, C) float32 -> tensors of n rows: `log_probabilities` float16 (n, C) or (n, k), largest first;
    `log_sum_exp` float32 (n,), which added gives the logits back; and of the largest k only, `classes` uint16
    or int32 (n, k) and `rest` float16 (n,), the log-probability of all other classes together."""
    exact = logits.astype(np.float64)
    total = logsumexp(exact, axis=1)
    log_p = np.maximum(exact - total[:, None], _LEAST)
    common = {"log_sum_exp": total.astype(np.float32)}
    if layout.top is None:
        return {"log_probabilities": log_p.astype(np.float16), **common}
    places = np.argpartition(-log_p, layout.top - 1, axis=1)
    largest, others = np.sort(places[:, : layout.top], axis=1), places[:, layout.top :]
    order = np.argsort(-np.take_along_axis(log_p, largest, axis=1), axis=1, kind="stable")
    largest = np.take_along_axis(largest, order, axis=1)
    rest = np.maximum(logsumexp(np.take_along_axis(log_p, others, axis=1), axis=1), _LEAST)
    kind = np.uint16 if layout.classes <= 1 << 16 else np.int32
    return {
        "log_probabilities": np.take_along_axis(log_p, largest, axis=1).astype(np.float16),
        "classes": largest.astype(kind),
        "rest": rest.astype(np.float16),
        **common,
    }


def targets(rows: Compact, layout: LogitFormat) -> np.ndarray:
    """What a loss is given of encoded rows: (n, width) float32. Class numbers are exact up to 2^24."""
    log_p = rows["log_probabilities"].astype(np.float32)
    if layout.top is None:
        return log_p
    rest = rows["rest"].astype(np.float32)[:, None]
    return np.concatenate([rows["classes"].astype(np.float32), log_p, rest], axis=1)


def probabilities(rows: Compact, layout: LogitFormat) -> np.ndarray:
    """Encoded rows as (n, C) float32 that sum to one; of the largest k only, the others share the rest
    evenly."""
    log_p = rows["log_probabilities"].astype(np.float64)
    if layout.top is None:
        dense = np.exp(log_p)
    else:
        share = np.exp(rows["rest"].astype(np.float64)) / (layout.classes - layout.top)
        dense = np.repeat(share[:, None], layout.classes, axis=1)
        np.put_along_axis(dense, rows["classes"].astype(np.int64), np.exp(log_p), axis=1)
    return (dense / dense.sum(axis=1, keepdims=True)).astype(np.float32)
