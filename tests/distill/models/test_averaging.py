import numpy as np
from scipy.special import logsumexp

from distill.data.teacher_outputs import Answers
from distill.models.averaging import log_mean_probabilities, over_mirror_images


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


def test_an_image_and_its_mirror_image() -> None:
    """Of a teacher that looks at one column of pixels: classes are averaged, features are of the image."""
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)

    def left(shown: np.ndarray) -> np.ndarray:
        columns = shown[:, :, 0].reshape(len(shown), -1).astype(np.float32)
        return np.concatenate([columns[:, :3] / 100, columns[:, 3:5]], axis=1)

    both = over_mirror_images(Answers("logits and features", 5, left, 7.0, halved=2), classes=3)
    assert (both.flops_per_image, both.width, both.halved) == (14.0, 5, 2)
    found, plain, mirrored = both.ask(images), left(images), left(images[:, :, ::-1])
    assert np.array_equal(found[:, 3:], plain[:, 3:])
    expected = (_softmax(plain[:, :3]) + _softmax(mirrored[:, :3])) / 2
    assert np.allclose(_softmax(found[:, :3]), expected, atol=1e-6)
    size = (logsumexp(plain[:, :3], axis=1) + logsumexp(mirrored[:, :3], axis=1)) / 2
    assert np.allclose(logsumexp(found[:, :3], axis=1), size, atol=1e-5)
