import numpy as np
import pytest
import torch
import torch.nn.functional as F

from distill.methods.dual_head import DualHead, with_label_column
from distill.methods.task_oriented import TaskOriented
from distill.methods.top_k import TopKTaskOriented

CLASSES = 3


def _logits(seed: int, n: int = 4, width: int = CLASSES) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def _targets(teacher: torch.Tensor, labels: list[int]) -> torch.Tensor:
    return torch.from_numpy(with_label_column(teacher.numpy(), np.array(labels)))


def test_each_head_has_its_own_teacher() -> None:
    outputs, teacher = _logits(0, width=2 * CLASSES), _logits(1)
    loss = DualHead(TaskOriented(), CLASSES, weight=0.5, share=0.5)
    found = loss(outputs, _targets(teacher, [-1, 2, -1, 0]))
    labelled = F.cross_entropy(outputs[[1, 3], CLASSES:], torch.tensor([2, 0]))
    matched = TaskOriented()(outputs[:, :CLASSES], teacher)
    assert found.item() == pytest.approx((matched + 0.5 * labelled).item(), rel=1e-6)


def test_without_a_label_only_the_teacher_teaches() -> None:
    outputs = _logits(0, width=2 * CLASSES).requires_grad_(True)
    teacher = _logits(1)
    loss = DualHead(TaskOriented(), CLASSES, weight=3.0, share=0.1)(outputs, _targets(teacher, [-1] * 4))
    loss.backward()
    assert loss.item() == TaskOriented()(outputs[:, :CLASSES], teacher).item()
    assert outputs.grad is not None and outputs.grad[:, CLASSES:].abs().max() == 0


def test_halves_of_a_batch_add_up_to_the_whole() -> None:
    """However the labelled images are spread over them."""
    outputs, teacher = _logits(0, n=8, width=2 * CLASSES), _logits(1, n=8)
    targets = _targets(teacher, [0, 1, 2, -1, -1, -1, -1, 1])
    loss = DualHead(TaskOriented(), CLASSES, weight=2.0, share=0.5)
    halves = (loss(outputs[:4], targets[:4]) + loss(outputs[4:], targets[4:])) / 2
    assert halves.item() == pytest.approx(loss(outputs, targets).item(), rel=1e-6)


def test_the_largest_classes_of_a_store() -> None:
    outputs = _logits(0, n=1, width=2 * CLASSES)
    stored = torch.tensor([[1.0, -0.3, float(np.log(1 - np.exp(-0.3)))]])
    loss = DualHead(TopKTaskOriented(), CLASSES, weight=1.0, share=1.0)
    expected = TopKTaskOriented()(outputs[:, :CLASSES], stored)
    expected = expected + F.cross_entropy(outputs[:, CLASSES:], torch.tensor([2]))
    assert loss(outputs, _targets(stored, [2])).item() == pytest.approx(expected.item(), rel=1e-6)
