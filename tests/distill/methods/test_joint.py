import pytest
import torch

from distill.methods.joint import Joint
from distill.methods.pseudo_labels import PseudoLabels
from distill.methods.task_oriented import TaskOriented


def _logits(seed: int, width: int) -> torch.Tensor:
    return torch.randn(5, width, generator=torch.Generator().manual_seed(seed))


def test_every_head_is_compared_with_its_teacher() -> None:
    outputs, targets = _logits(0, 7), _logits(1, 7)
    loss = Joint((TaskOriented(), PseudoLabels()), (3, 4), (3, 4), (1.0, 3.0))
    first = TaskOriented()(outputs[:, :3], targets[:, :3])
    second = PseudoLabels()(outputs[:, 3:], targets[:, 3:])
    assert loss(outputs, targets).item() == pytest.approx(((first + 3 * second) / 4).item(), rel=1e-6)


def test_it_is_zero_where_all_agree() -> None:
    outputs = _logits(0, 7)
    loss = Joint((TaskOriented(), TaskOriented()), (3, 4), (3, 4), (2.0, 1.0))
    assert loss(outputs, outputs).item() == pytest.approx(0, abs=1e-6)
