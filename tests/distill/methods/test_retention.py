import numpy as np
import pytest
import torch

from distill.methods.retention import Retention, with_labels
from distill.methods.supervised import Supervised
from distill.methods.task_oriented import TaskOriented

LABELS = np.array([2, 0, 1])


def _logits(seed: int) -> torch.Tensor:
    return torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))


def _targets(before: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(with_labels(LABELS, before.numpy()))


def test_it_is_the_sum_of_both_parts() -> None:
    now, before = _logits(0), _logits(1)
    expected = Supervised()(now, torch.from_numpy(LABELS)) + 0.3 * TaskOriented()(now, before)
    assert Retention(Supervised(), 0.3)(now, _targets(before)).item() == pytest.approx(expected.item())


def test_who_says_what_was_said_before_pays_for_the_labels_only() -> None:
    now = _logits(0)
    own = Supervised()(now, torch.from_numpy(LABELS))
    assert Retention(Supervised(), 100.0)(now, _targets(now)).item() == pytest.approx(own.item(), rel=1e-5)


def test_labels_survive_being_stored_beside_logits() -> None:
    targets = with_labels(np.array([0, 20_000]), np.ones((2, 3), np.float32))
    assert targets.dtype == np.float32 and targets.shape == (2, 4) and targets[1, 0] == 20_000
