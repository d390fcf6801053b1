import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logsumexp

from distill.data.image_stream import ImageRef
from distill.finished.rejection import (
    SCORE,
    Rejection,
    draw,
    read_rejection,
    scores,
    threshold_of,
    write_rejection,
)
from transferset.errors import DataError

REJECTION = Rejection(SCORE, 2.0, 0.9, 100, 1, ("pool",), 0, "f32", "abc")


def test_the_score_is_the_log_sum_exp() -> None:
    logits = np.random.default_rng(0).normal(0, 300, (5, 4)).astype(np.float32)
    assert np.allclose(scores(logits), logsumexp(logits.astype(np.float64), axis=1))
    assert REJECTION.rejects(np.array([[0.0, 0.0], [3.0, 0.0]])).tolist() == [True, False]


def test_images_are_drawn_evenly_and_again() -> None:
    images = [ImageRef(str(number), Path(str(number))) for number in range(40)]
    assert draw(images, 10, 3) == draw(iter(images), 10, 3) != draw(images, 10, 4)
    assert draw(images, 100, 0) == images
    assert draw([*images, ImageRef("x", Path("x"), problem="cut off")], 100, 0) == images
    counts = np.zeros(40)
    for seed in range(400):
        counts[[int(image.name) for image in draw(images, 10, seed)]] += 1
    assert counts.min() > 60 and counts.max() < 145  # 100 expected, deviation 8.7


def test_it_is_kept_for_the_model_it_was_fitted_with(tmp_path: Path) -> None:
    assert read_rejection(tmp_path, "f32", "abc") is None
    write_rejection(tmp_path, REJECTION)
    assert read_rejection(tmp_path, "f32", "abc") == REJECTION
    for other in (("int8", "abc"), ("f32", "other")):
        with pytest.raises(DataError, match="another model"):
            read_rejection(tmp_path, *other)
    found = json.loads((tmp_path / "rejection.json").read_text())
    for damaged in ({"format_version": 1}, {**found, "threshold": "low"}):
        (tmp_path / "rejection.json").write_text(json.dumps(damaged))
        with pytest.raises(DataError, match="damaged"):
            read_rejection(tmp_path, "f32", "abc")


@pytest.mark.parametrize("images", [20, 50, 100])
def test_the_threshold_rejects_as_much_of_what_was_not_seen(images: int) -> None:
    rng = np.random.default_rng(0)
    rejected = [
        (rng.normal(size=1000) < threshold_of(rng.normal(size=images), 0.9)).mean() for _ in range(300)
    ]
    assert 0.895 <= np.mean(rejected) <= 0.93


def test_too_few_images_for_a_quantile_reject_by_the_largest() -> None:
    assert threshold_of(np.array([3.0, 1.0, 2.0]), 0.95) == 3.0
    assert threshold_of(np.array([3.0, 1.0, 2.0]), 0.0) == 1.0
