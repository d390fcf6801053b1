"""The ways to transfer from a teacher to a student: what is asked of the teacher, and how it is compared."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from distill.methods.feature_matching import ContrastiveMatch, CosineMatch, SmoothL1Match
from distill.methods.pseudo_labels import PseudoLabels
from distill.methods.task_oriented import TaskOriented
from transferset.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

Loss = Callable[["Tensor", "Tensor"], "Tensor"]
Output = Literal["logits", "features", "logits and features", "patches"]

TASK_ORIENTED, PSEUDO_LABELS, TASK_AGNOSTIC = "task-oriented", "pseudo-labels", "task-agnostic"
METHODS = (TASK_ORIENTED, PSEUDO_LABELS, TASK_AGNOSTIC)
FEATURE_LOSSES = ("cosine", "smooth-l1", "contrastive", "patches")


@dataclass(frozen=True)
class Transfer:
    """One way. `output` of the teacher is the target; `loss(student's outputs, targets)` compares, at
    `temperature` and by `feature_loss` where the way has them. `least_batch`: images it takes to compare.
    `feature_weight`: what the teacher's features count beside its logits (see `FeatureTerm`); 0: nothing."""

    loss: Loss
    output: Output = "logits"
    temperature: float | None = None
    feature_loss: str | None = None
    least_batch: int = 1
    feature_weight: float = 0.0

    @property
    def trains_classifier(self) -> bool:
        """Whether the student's outputs are those of a classifier, and not a projection to features."""
        return self.output == "logits"

    @property
    def targets(self) -> Output:
        """What of the teacher the student is compared with."""
        return "logits and features" if self.feature_weight else self.output


def transfer_method(
    name: str, *, temperature: float | None, feature_loss: str | None, feature_weight: float = 0.0
) -> Transfer:
    """The way by its name; None: its default. UsageError for unknown names and what does not go together."""
    if name not in METHODS:
        raise UsageError(f"unknown --method {name!r}", hint=f"one of: {', '.join(METHODS)}")
    if temperature is not None and not 0 < temperature < math.inf:
        raise UsageError(f"--temperature {temperature} must be positive and finite")
    if not 0 <= feature_weight < math.inf:
        raise UsageError(f"--feature-weight {feature_weight} must not be negative or infinite")
    if feature_weight and name != TASK_ORIENTED:
        raise UsageError(
            f"--feature-weight with --method {name}: it is what features count beside class probabilities",
            hint=f"leave it out, or give --method {TASK_ORIENTED}",
        )
    if name == TASK_AGNOSTIC:
        return _feature_matching(feature_loss or FEATURE_LOSSES[0], temperature)
    if feature_loss is not None:
        raise UsageError(
            f"--feature-loss with --method {name}, which matches no features",
            hint=f"leave it out, or give --method {TASK_AGNOSTIC}",
        )
    if name == TASK_ORIENTED:
        temperature = 1.0 if temperature is None else temperature
        loss = TaskOriented(temperature)
        return Transfer(loss, temperature=temperature, feature_weight=feature_weight)
    if temperature is not None:
        raise UsageError(f"--temperature with --method {name}, which has none", hint="leave it out")
    return Transfer(PseudoLabels())


def _feature_matching(loss: str, temperature: float | None) -> Transfer:
    if loss not in FEATURE_LOSSES:
        raise UsageError(f"unknown --feature-loss {loss!r}", hint=f"one of: {', '.join(FEATURE_LOSSES)}")
    if loss == "contrastive":
        match = ContrastiveMatch() if temperature is None else ContrastiveMatch(temperature)
        return Transfer(match, "features", match.temperature, loss, least_batch=2)
    if temperature is not None:
        raise UsageError(
            f"--temperature with --feature-loss {loss}, which has none",
            hint="leave it out, or give --feature-loss contrastive",
        )
    if loss == "patches":  # `PatchMatch` needs to know the grid
        return Transfer(CosineMatch(), "patches", feature_loss=loss)
    return Transfer(CosineMatch() if loss == "cosine" else SmoothL1Match(), "features", feature_loss=loss)
