"""Transfer by pseudo-labels: the teacher's most probable class is taken as if it were a label."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PseudoLabels:
    """Mean cross-entropy with the class that the teacher finds most probable.

    D.-H. Lee: "Pseudo-Label" (2013). What the teacher thinks of the other classes is lost: the comparison
    that shows what matching its probabilities is worth.
    """

    def __call__(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """`outputs` (n, C) logits of the student, `targets` (n, C) logits of the teacher -> scalar."""
        import torch.nn.functional as F

        return F.cross_entropy(outputs.float(), targets.argmax(dim=1))
