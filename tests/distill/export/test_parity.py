from pathlib import Path

import numpy as np
import pytest

from distill.data.rendered import Rendering
from distill.export.parity import REFERENCE, Answers, ask_all, check_drop, check_same, compare
from distill.task import accuracy
from transferset.errors import DataError, NumericError
from transferset.models.preprocessing import Preprocessing

RUN = np.array([[2.0, 1.0], [0.0, 3.0], [1.0, 1.5]], np.float32)
LABELS = np.array([0, 1, 0])


def _parity(model: np.ndarray, labels: np.ndarray | None = LABELS):
    return compare(Answers({REFERENCE: RUN, "m": model}, [0, 1, 2]), "m", labels, accuracy)


def test_small_differences_pass_and_large_ones_do_not() -> None:
    near = _parity(RUN + np.float32(1e-4))
    assert near.max_difference == pytest.approx(1e-4, rel=0.01) and near.top1_changed == 0
    check_same(near, "m", 1e-3)
    with pytest.raises(NumericError, match="differ by up to"):
        check_same(near, "m", 1e-5)


def test_another_answer_fails_at_any_tolerance() -> None:
    changed = RUN.copy()
    changed[2] = (1.5, 1.0)
    parity = _parity(changed)
    assert parity.top1_changed == 1
    with pytest.raises(NumericError, match="1 of 3 answers"):
        check_same(parity, "m", 100)


def test_the_drop_is_that_of_the_score() -> None:
    worse = _parity(RUN[:, ::-1].copy())
    assert (worse.score_of_run, worse.score) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    check_drop(worse, "m", 0.34, "balanced accuracy")
    with pytest.raises(NumericError, match=r"loses too much: balanced accuracy 0\.3333 where the run has"):
        check_drop(worse, "m", 0.3, "balanced accuracy")
    assert _parity(RUN, labels=None).drop is None


def test_logits_that_are_not_finite_fail() -> None:
    with pytest.raises(NumericError, match="not finite"):
        _parity(RUN * np.float32("nan"))


def test_unreadable_images_are_left_out(tmp_path: Path, encode, picture) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for number, path in enumerate(paths):
        path.write_bytes(encode(picture(seed=number), "png"))
    paths[2].write_bytes(b"")
    rendering = Rendering(Preprocessing(8, "squash", 1.0, "bilinear", (0, 0, 0), (1, 1, 1)), batch_size=2)
    means = {REFERENCE: lambda batch: batch.reshape(len(batch), -1).astype(np.float32)}
    answers = ask_all(means, paths, rendering, "compare")
    assert answers.places == [0, 1, 3, 4] and len(answers.logits[REFERENCE]) == 4
    with pytest.raises(DataError):
        ask_all(means, paths[2:3], rendering, "compare")
