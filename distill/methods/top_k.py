"""Transfer from the teacher's largest probabilities and the sum of the others: the losses for stored top-k
outputs.

Targets are (n, 2k + 1): k class numbers, largest probability first, their log-probabilities, and the
log-probability of all other classes together.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill.methods.pseudo_labels import PseudoLabels
from distill.methods.task_oriented import TaskOriented
from transferset.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from distill.methods.transfer import Loss


@dataclass(frozen=True)
class TopKTaskOriented:
    """`TaskOriented` over k + 1 classes: the teacher's k most probable ones and the rest as one.

    The student's rest is the log-sum-exp of its logits of the other classes, so the loss is 0 where student
    and teacher agree: cutting the teacher's probabilities off and scaling up what is left would not be. It is
    at most the loss over all classes (data processing inequality), at temperature 1.
    """

    temperature: float = 1.0

    def __call__(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """`outputs` (n, C) logits of the student, C > k, `targets` (n, 2k + 1) -> scalar."""
        import torch

        logits = outputs.float()
        k = (targets.shape[1] - 1) // 2
        largest = targets[:, :k].long()
        rest = logits.scatter(1, largest, float("-inf")).logsumexp(dim=1, keepdim=True)
        student = torch.cat([logits.gather(1, largest), rest], dim=1)
        return TaskOriented(self.temperature)(student, targets[:, k:])


@dataclass(frozen=True)
class TopKPseudoLabels:
    """`PseudoLabels`: the first of the k classes is the teacher's most probable one."""

    def __call__(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """`outputs` (n, C) logits of the student, `targets` (n, 2k + 1) -> scalar."""
        import torch.nn.functional as F

        return F.cross_entropy(outputs.float(), targets[:, 0].long())


def top_k_loss(loss: "Loss") -> "Loss":
    """The loss that does with top-k targets what `loss` does with the teacher's logits."""
    if isinstance(loss, TaskOriented):
        return TopKTaskOriented(loss.temperature)
    if isinstance(loss, PseudoLabels):
        return TopKPseudoLabels()
    raise UsageError(
        "this method needs the teacher's output for every class", hint="label with a larger --top-k"
    )
