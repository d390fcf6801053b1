"""Task-oriented transfer: the student matches the teacher's class probabilities."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TaskOriented:
    """Mean over the batch of KL(teacher || student), of the class probabilities at `temperature`.

    The factor temperature² keeps the gradients' size (Hinton, Vinyals, Dean: "Distilling the Knowledge in a
    Neural Network", 2015). The loss is 0 where both agree.
    """

    temperature: float = 1.0

    def __call__(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """`outputs` (n, C) logits of the student, `targets` (n, C) logits of the teacher -> scalar."""
        import torch.nn.functional as F

        student = F.log_softmax(outputs.float() / self.temperature, dim=1)
        teacher = F.log_softmax(targets.float() / self.temperature, dim=1)
        return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * self.temperature**2
