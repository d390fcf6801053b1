"""The rule by which a transfer set is refined: three quantities, each from what the teacher says of it.

1. **Off task.** How much an image looks like any of the classes is the log-sum-exp of the teacher's logits,
   the negative free energy (W. Liu et al., "Energy-based Out-of-distribution Detection", 2020). Probabilities
   do not tell: an image between two classes is as undecided as one of none. What is little is measured on
   random images of the pool, most of which are not of the task: an image that looks less on task than the
   share `off_task` of them leaves the set and is not taken again. Where none does, nothing is dropped; nor
   where the table lacks these scores (`distill label --table --reject-from POOL` writes them). A share to
   `drop` that is given in their place is dropped whatever it looks like: the least on task or, in a table
   without that column, the most undecided.
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
    """`drop`: share of the images that leaves (None: those that are off task). `off_task`: share of random
    images that an image must look more on task than. `most`: of a class's quota, in even ones.
    `uncertain_share`: of the total; `uncertain_queries`: how many images share it (None: as many as there are
    queries, four images each at least)."""

    drop: float | None = None
    most: float = 2.0
    uncertain_share: float = 0.2
    uncertain_queries: int | None = None
    off_task: float = 0.5

    def __post_init__(self) -> None:
        if self.drop is not None and not 0 <= self.drop < 1:
            raise UsageError(f"--drop is a share, from 0 to below 1, got {self.drop}")
        if not 0 <= self.off_task <= 1:
            raise UsageError(f"--off-task is a share, from 0 to 1, got {self.off_task}")
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
    dropped = _dropped(rule, judgement)
    kept = np.setdiff1d(np.arange(len(judgement.ids)), dropped)
    if not len(kept):
        raise DataError(
            f"all {len(judgement.ids)} images look less on task than {rule.off_task:.0%} of random ones",
            hint="look at the table; a smaller --off-task, or --drop 0, keeps more",
        )
    uncertain, budget = _uncertain(rule, judgement, kept, len(labels), total)
    mean = judgement.probabilities[kept].astype(np.float64).mean(axis=0)
    even = 1 / len(judgement.classes)
    weights = np.clip(even / np.maximum(mean, 1e-12), 1 / rule.most, rule.most)
    by_class = dict(zip(judgement.classes, weights.tolist(), strict=True))
    shares = np.array([1.0 if label is None else by_class[label] for label in labels])
    quotas = tuple(spread(total - budget, shares))
    if 0 in quotas:
        raise UsageError(
            f"--total {total} leaves {total - budget} images to {len(labels)} queries: some get none",
            hint="give a larger --total, or a smaller --uncertain-share or --most",
        )
    return Refined(
        dropped=dropped,
        uncertain=uncertain,
        quotas=quotas,
        uncertain_quotas=tuple(spread(budget, np.ones(len(uncertain)))) if len(uncertain) else (),
        mass=dict(zip(judgement.classes, mean.round(6).tolist(), strict=True)),
        weights={name: round(weight, 6) for name, weight in by_class.items()},
    )


def _dropped(rule: Rule, judgement: Judgement) -> np.ndarray:
    """The rows that leave, in ascending order."""
    score, random = judgement.on_task, judgement.random_on_task
    if rule.drop is None:
        if score is None or random is None:
            return np.empty(0, np.int64)
        return np.flatnonzero(score < np.quantile(random, rule.off_task))
    least = -judgement.entropy if score is None else score
    order = np.lexsort((np.arange(len(least)), least))
    return np.sort(order[: int(rule.drop * len(least))])


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
