import numpy as np

from distill.models.averaging import log_mean_probabilities


def _softmax(logits: np.ndarray) -> np.ndarray:
    exact = np.exp(logits.astype(np.float64))
    return np.asarray(exact / exact.sum(axis=1, keepdims=True))


def test_probabilities_are_averaged_and_not_logits() -> None:
    """The second teacher's logits are large, and no surer for it after the softmax than the first one is."""
    first = np.array([[3.0, 0.0, 0.0]], np.float32)
    second = np.array([[100.0, 103.0, 100.0]], np.float32)
    found = np.exp(log_mean_probabilities([first, second], (1.0, 1.0)))
    assert np.allclose(found, (_softmax(first) + _softmax(second - 100)) / 2, atol=1e-6)
    assert np.isclose(found[0, 0], found[0, 1])


def test_weights_count_by_their_ratio() -> None:
    first, second = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    found = np.exp(log_mean_probabilities([first, second], (2.0, 6.0)))
    assert np.allclose(found, 0.25 * _softmax(first) + 0.75 * _softmax(second), atol=1e-6)
    assert np.allclose(found.sum(axis=1), 1)


def test_impossible_classes_stay_finite() -> None:
    sure = np.array([[1000.0, 0.0]], np.float32)
    assert np.isfinite(log_mean_probabilities([sure, sure], (1.0, 1.0))).all()
