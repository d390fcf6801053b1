from pathlib import Path

import numpy as np
import pytest

from distill.metrics import negative_log_likelihood
from distill.models.heads import LinearHead, fit_heads, fit_temperature, read_head, write_head
from transferset.errors import DataError


def test_a_head_is_read_as_it_was_written_whatever_its_order_in_memory(tmp_path: Path) -> None:
    weight = np.asfortranarray(np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32))
    bias = np.arange(6, dtype=np.float32)[::2]
    write_head(tmp_path / "head.safetensors", LinearHead(weight, bias, 0.25))
    head = read_head(tmp_path / "head.safetensors")
    assert np.array_equal(head.weight, weight) and np.array_equal(head.bias, bias)
    assert head.temperature == 0.25


def test_a_damaged_head_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "head.safetensors").write_bytes(b"nothing")
    with pytest.raises(DataError, match="not the head"):
        read_head(tmp_path / "head.safetensors")


def test_the_temperature_undoes_a_scale() -> None:
    random = np.random.default_rng(1)
    logits = random.normal(size=(4000, 5)) * 2
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([random.choice(5, p=row) for row in probabilities])
    flat = (logits / 6).astype(np.float32)  # as a strongly regularised head gives them
    temperature, _ = fit_temperature(flat, labels, np.ones(len(labels)))
    assert temperature == pytest.approx(1 / 6, rel=0.1)
    assert negative_log_likelihood(flat / temperature, labels) < negative_log_likelihood(flat, labels)


def test_a_head_can_act_on_features_as_they_are() -> None:
    """Both heads tell these classes apart; only the plain one is a linear layer that length matters to."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(2), 20)
    features = (rng.normal(size=(40, 4)) + 5 * np.eye(4)[labels]).astype(np.float32)
    fits = {
        unit: next(fit_heads(features[:, None], labels, np.ones(40), [1.0], 2, unit_length=unit))
        for unit in (True, False)
    }
    for unit, head in fits.items():
        assert head.unit_length is unit
        assert np.mean(head.logits(features).argmax(axis=1) == labels) == 1
    plain = features @ fits[False].weight.T + fits[False].bias
    np.testing.assert_allclose(fits[False].logits(features), plain, rtol=1e-5)
    np.testing.assert_allclose(fits[True].logits(9 * features), fits[True].logits(features), atol=1e-4)
