"""The rule by which a transfer set is refined: three quantities, each from the teacher's mean probabilities.

1. **Off task.** A teacher that knows C classes can say that an image is none of them only by being undecided
   among all. The share `drop` of the images with the largest entropy leaves the set and is not taken again.
2. **Under-represented.** What the rest holds of a class is its mean probability m_c, which counts what the
   teacher sees and not for whom an image was retrieved. A query of the class gets a quota in proportion to
   (1 / C) / m_c, at least 1 / `most` and at most `most` times that of a class with m_c = 1 / C.
3. **Uncertain.** Where the teacher hesitates between two classes, its second largest probability is large
   (at most a half). The images where it is largest become queries themselves, with the share
   `uncertain_share` of the total, spread evenly; their neighbours show the student where classes meet.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from curate.refinement.judgement import Judgement
from transferset.errors import DataError, UsageError

_LEAST_PER_UNCERTAIN = 4


@dataclass(frozen=True)
class Rule:
    """`drop`: share of the images that are off task. `most`: of a class's quota, in even ones.
    `uncertain_share`: of the total; `uncertain_queries`: how many images share it (None: as many as there are
    queries, four images each at least)."""

    drop: float = 0.1
    most: float = 2.0
    uncertain_share: float = 0.2
    uncertain_queries: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.drop < 1:
            raise UsageError(f"--drop is a share, from 0 to below 1, got {self.drop}")
        if not 0 <= self.uncertain_share < 1:
            raise UsageError(f"--uncertain-share is a share, from 0 to below 1, got {self.uncertain_share}")
        if not 1 <= self.most < float("inf"):
            raise UsageError(f"--most must be at least 1, got {self.most}")
        if self.uncertain_queries is not None and self.uncertain_queries < 0:
            raise UsageError(f"--uncertain-queries must not be negative, got {self.uncertain_queries}")

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Refined:
    """What the rule says: rows of the judgement that are `dropped` and `uncertain` (most uncertain first),
    the quota of every query, then of every uncertain image; `mass` m_c and `weights` by class."""

    dropped: np.ndarray
    uncertain: np.ndarray
    quotas: tuple[int, ...]
    uncertain_quotas: tuple[int, ...]
    mass: dict[str, float]
    weights: dict[str, float]


def refine_by(rule: Rule, judgement: Judgement, labels: Sequence[str | None], total: int) -> Refined:
    """Apply the rule for `total` images and queries with these labels (None: of no class, weight 1).

    Raises DataError for a label that the teacher doesn't know, UsageError where `total` leaves queries
    without an image.
    """
    unknown = sorted({label for label in labels if label is not None} - set(judgement.classes))
    if unknown:
        raise DataError(
            f"the teacher of the table does not know the class {', '.join(unknown[:3])}",
            hint=f"it knows {', '.join(judgement.classes[:8])}",
        )
    by_entropy = np.lexsort((np.arange(len(judgement.ids)), -judgement.entropy))
    dropped = np.sort(by_entropy[: int(rule.drop * len(judgement.ids))])
    kept = np.setdiff1d(np.arange(len(judgement.ids)), dropped)
    uncertain, budget = _uncertain(rule, judgement, kept, len(labels), total)
    mean = judgement.probabilities[kept].astype(np.float64).mean(axis=0)
    even = 1 / len(judgement.classes)
    weights = np.clip(even / np.maximum(mean, 1e-12), 1 / rule.most, rule.most)
    by_class = dict(zip(judgement.classes, weights.tolist(), strict=True))
    shares = np.array([1.0 if label is None else by_class[label] for label in labels])
    if total - budget < len(labels):
        raise UsageError(
            f"--total {total} leaves {total - budget} images to {len(labels)} queries",
            hint="give a larger --total or a smaller --uncertain-share",
        )
    return Refined(
        dropped=dropped,
        uncertain=uncertain,
        quotas=tuple(spread(total - budget, shares)),
        uncertain_quotas=tuple(spread(budget, np.ones(len(uncertain)))) if len(uncertain) else (),
        mass=dict(zip(judgement.classes, mean.round(6).tolist(), strict=True)),
        weights={name: round(weight, 6) for name, weight in by_class.items()},
    )


def _uncertain(
    rule: Rule, judgement: Judgement, kept: np.ndarray, queries: int, total: int
) -> tuple[np.ndarray, int]:
    """The rows that become queries, and how many images they share."""
    budget = int(rule.uncertain_share * total)
    count = min(queries, budget // _LEAST_PER_UNCERTAIN)
    if rule.uncertain_queries is not None:
        count = rule.uncertain_queries
    count = min(count, budget, len(kept))
    if count == 0 or len(judgement.classes) < 2:
        return np.empty(0, np.int64), 0
    second = np.sort(judgement.probabilities[kept], axis=1)[:, -2]
    order = np.lexsort((kept, -second))
    return kept[order[:count]], budget


def spread(total: int, shares: np.ndarray) -> list[int]:
    """`total` in whole numbers in proportion to `shares` (n,), by largest remainders, the first of equals
    first."""
    exact = total * shares / shares.sum()
    whole = np.floor(exact).astype(np.int64)
    order = np.lexsort((np.arange(len(shares)), whole - exact))
    whole[order[: total - int(whole.sum())]] += 1
    quotas: list[int] = whole.tolist()
    return quotas
