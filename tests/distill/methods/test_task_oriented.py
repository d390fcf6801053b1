import numpy as np
import pytest
import torch

from distill.methods.task_oriented import TaskOriented


def _reference(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    def log_softmax(logits: np.ndarray) -> np.ndarray:
        logits = logits.astype(np.float64) / temperature
        return (
            logits
            - logits.max(1, keepdims=True)
            - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1))[:, None]
        )

    p, q = log_softmax(teacher), log_softmax(student)
    return float((np.exp(p) * (p - q)).sum(1).mean() * temperature**2)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 0.5])
def test_it_is_the_divergence_of_the_probabilities(temperature: float) -> None:
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(2, 7, 5)).astype(np.float32) * 4
    loss = TaskOriented(temperature)(torch.from_numpy(student), torch.from_numpy(teacher))
    assert loss.item() == pytest.approx(_reference(student, teacher, temperature), rel=1e-5)


def test_zero_at_equality_and_under_shifts() -> None:
    logits = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    assert TaskOriented()(logits, logits + 3.0).item() == pytest.approx(0.0, abs=1e-6)


def test_it_stays_finite_where_the_teacher_is_certain() -> None:
    student = torch.zeros(1, 3, requires_grad=True)
    loss = TaskOriented()(student, torch.tensor([[1000.0, 0.0, -1000.0]]))
    loss.backward()
    assert loss.item() == pytest.approx(np.log(3), rel=1e-5)
    assert student.grad is not None and torch.isfinite(student.grad).all()


def test_gradient_is_the_difference_of_probabilities() -> None:
    generator = torch.Generator().manual_seed(1)
    student = torch.randn(3, 4, generator=generator, requires_grad=True)
    teacher = torch.randn(3, 4, generator=generator)
    TaskOriented()(student, teacher).backward()
    assert student.grad is not None
    assert torch.allclose(student.grad, (student.softmax(1) - teacher.softmax(1)) / 3, atol=1e-6)
