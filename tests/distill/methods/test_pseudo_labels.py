import numpy as np
import pytest
import torch

from distill.methods.pseudo_labels import PseudoLabels


def test_it_is_the_cross_entropy_with_the_most_probable_class() -> None:
    student = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    teacher = torch.tensor([[0.1, 0.0], [9.0, -9.0]])
    expected = (np.log(1 + np.exp(-1)) + np.log(1 + np.exp(3))) / 2
    assert PseudoLabels()(student, teacher).item() == pytest.approx(expected, rel=1e-6)


def test_how_sure_the_teacher_is_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 5, 4, generator=generator)
    assert torch.equal(PseudoLabels()(student, teacher), PseudoLabels()(student, 10 * teacher + 3))


def test_gradient_is_the_probabilities_minus_the_class() -> None:
    generator = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, 3, 4, generator=generator)
    student.requires_grad_(True)
    PseudoLabels()(student, teacher).backward()
    own = torch.nn.functional.one_hot(teacher.argmax(1), 4)
    assert student.grad is not None
    assert torch.allclose(student.grad, (student.softmax(1) - own) / 3, atol=1e-6)
