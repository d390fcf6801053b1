import numpy as np
import pytest
import torch

from distill.methods.supervised import Supervised, balanced_weights


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_it_is_the_smoothed_cross_entropy(smoothing: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, 5)).astype(np.float32)
    labels = np.array([0, 4, 2, 2, 1, 3])
    loss = Supervised(smoothing)(torch.from_numpy(logits), torch.from_numpy(labels))
    wide = logits.astype(np.float64)
    log_p = wide - np.log(np.exp(wide).sum(1, keepdims=True))
    target = np.full((6, 5), smoothing / 5)
    target[np.arange(6), labels] += 1 - smoothing
    assert loss.item() == pytest.approx(-(target * log_p).sum(1).mean(), rel=1e-6)


def test_weights_make_every_class_count_the_same() -> None:
    labels = np.array([0, 0, 0, 2])
    weights = balanced_weights(labels, 3)
    assert weights == pytest.approx((4 / 2 / 3, 0.0, 4 / 2))
    assert sum(weights[label] for label in labels) == pytest.approx(4)


def test_an_image_counts_as_its_class_does() -> None:
    logits = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 1])
    each = torch.stack([Supervised(0.1)(logits[n : n + 1], labels[n : n + 1]) for n in range(3)])
    expected = (each * torch.tensor([2.0, 0.5, 0.5])).mean()
    assert Supervised(0.1, (2.0, 0.5))(logits, labels).item() == pytest.approx(expected.item(), rel=1e-6)
