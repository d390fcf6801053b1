import numpy as np
import pytest
import torch

from distill.data.compact_logits import LogitFormat, encode, targets
from distill.methods.feature_matching import CosineMatch
from distill.methods.pseudo_labels import PseudoLabels
from distill.methods.task_oriented import TaskOriented
from distill.methods.top_k import TopKPseudoLabels, TopKTaskOriented, top_k_loss
from transferset.errors import UsageError

CLASSES, K = 40, 6


def _exact(logits: torch.Tensor) -> torch.Tensor:
    """The targets without rounding."""
    log_p = logits.log_softmax(dim=1)
    top = log_p.topk(K, dim=1)
    rest = log_p.scatter(1, top.indices, float("-inf")).logsumexp(dim=1, keepdim=True)
    return torch.cat([top.indices.float(), top.values, rest], dim=1)


@pytest.fixture
def teacher() -> torch.Tensor:
    return torch.randn(8, CLASSES, generator=torch.Generator().manual_seed(0)) * 2


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_loss_is_zero_where_both_agree(teacher: torch.Tensor, temperature: float) -> None:
    student = (teacher + 5.0).requires_grad_()
    loss = TopKTaskOriented(temperature)(student, _exact(teacher))
    loss.backward()
    assert abs(loss.item()) < 1e-6 and student.grad is not None and student.grad.abs().max() < 1e-6
    stored = targets(encode(teacher.numpy(), LogitFormat(CLASSES, K)), LogitFormat(CLASSES, K))
    assert abs(TopKTaskOriented(temperature)(teacher, torch.from_numpy(stored)).item()) < 1e-5


def test_it_is_the_loss_over_classes_and_the_rest_as_one(teacher: torch.Tensor) -> None:
    student = torch.randn(8, CLASSES, generator=torch.Generator().manual_seed(1))
    p, q = teacher.softmax(dim=1).double(), student.softmax(dim=1).double()
    expected = 0.0
    for row in range(8):
        top = teacher[row].topk(K).indices
        left = [i for i in range(CLASSES) if i not in top.tolist()]
        pairs = [(p[row, i], q[row, i]) for i in top] + [(p[row, left].sum(), q[row, left].sum())]
        expected += sum(float(a * (a / b).log()) for a, b in pairs) / 8
    found = TopKTaskOriented()(student, _exact(teacher)).item()
    assert found == pytest.approx(expected, rel=1e-4)
    assert 0 < found < TaskOriented()(student, teacher).item()


def test_cutting_off_would_pull_where_there_is_nothing_to_learn(teacher: torch.Tensor) -> None:
    """Why there is a rest: renormalised top-k probabilities differ from a student that is the teacher."""
    cut = teacher.scatter(1, teacher.topk(CLASSES - K, largest=False).indices, -1e4)
    assert TaskOriented()(teacher, cut).item() > 0.1


def test_pseudo_labels_need_only_the_first(teacher: torch.Tensor) -> None:
    student = torch.randn(8, CLASSES, generator=torch.Generator().manual_seed(1))
    assert torch.equal(TopKPseudoLabels()(student, _exact(teacher)), PseudoLabels()(student, teacher))


def test_every_method_gets_its_own() -> None:
    assert top_k_loss(TaskOriented(2.0)) == TopKTaskOriented(2.0)
    assert isinstance(top_k_loss(PseudoLabels()), TopKPseudoLabels)
    with pytest.raises(UsageError):
        top_k_loss(CosineMatch())
    assert np.isfinite(TopKTaskOriented()(torch.zeros(1, 3), torch.tensor([[0.0, 0.0, -1e4]])).item())
