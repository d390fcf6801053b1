import numpy as np
import pytest
import torch

from distill.methods.supervised import Supervised


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
