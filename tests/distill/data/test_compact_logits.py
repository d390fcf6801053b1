import numpy as np
import pytest

from distill.data.compact_logits import LogitFormat, encode, logit_format, probabilities, targets
from transferset.errors import UsageError


def _logits(count: int, classes: int, spread: float = 4.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(count, classes)) * spread + 30).astype(np.float32)


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_all_classes_are_kept_up_to_256_then_the_largest() -> None:
    assert logit_format(256).top is None and logit_format(257).top == 64
    assert logit_format(20, 5) == LogitFormat(20, 5) and logit_format(20, 20).top is None
    assert logit_format(20).bytes_per_view == 2 * 20 + 4
    assert logit_format(1000).bytes_per_view == 64 * (2 + 2) + 2 + 4
    with pytest.raises(UsageError, match="--top-k"):
        logit_format(20, 0)


def test_all_classes_come_back_to_float16() -> None:
    logits, layout = _logits(50, 20), logit_format(20)
    rows = encode(logits, layout)
    assert rows["log_probabilities"].dtype == np.float16
    restored = targets(rows, layout) + rows["log_sum_exp"][:, None]
    assert np.allclose(restored, logits, atol=2e-2)
    assert np.allclose(probabilities(rows, layout), _softmax(logits), atol=5e-4)


@pytest.mark.parametrize("classes", [300, 70_000])
def test_the_largest_and_the_rest(classes: int) -> None:
    logits, layout = _logits(7, classes, spread=2.0), LogitFormat(classes, 10)
    rows = encode(logits, layout)
    exact = _softmax(logits)
    best = np.argsort(-exact, axis=1)[:, :10]
    assert np.array_equal(rows["classes"], best)
    found = targets(rows, layout)
    assert found.shape == (7, layout.width) and np.array_equal(found[:, :10].astype(int), best)
    kept = np.exp(found[:, 10:].astype(np.float64))
    assert np.allclose(kept.sum(axis=1), 1, atol=5e-3)
    assert np.allclose(kept[:, -1], 1 - np.take_along_axis(exact, best, 1).sum(axis=1), rtol=5e-3)
    dense = probabilities(rows, layout)
    assert dense.shape == (7, classes) and np.allclose(dense.sum(axis=1), 1, atol=1e-5)


def test_equal_logits_are_kept_in_the_order_of_the_classes() -> None:
    rows = encode(np.zeros((2, 9), np.float32), LogitFormat(9, 9 - 1))
    assert (np.diff(rows["classes"].astype(int), axis=1) > 0).all()


def test_impossible_classes_stay_finite() -> None:
    logits = np.array([[60_000.0, -60_000.0, 0.0, 1.0]], np.float32)
    for layout in (LogitFormat(4), LogitFormat(4, 1)):
        rows = encode(logits, layout)
        assert all(np.isfinite(tensor).all() for tensor in rows.values())
        assert probabilities(rows, layout)[0].round(6).tolist() == [1, 0, 0, 0]
