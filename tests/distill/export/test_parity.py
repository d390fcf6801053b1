from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from distill.data.rendered import Rendering
from distill.export.parity import (
    REFERENCE,
    Answers,
    Parity,
    ask_all,
    changed_answers,
    check_drop,
    check_same,
    compare,
    joined,
    parts_of,
)
from distill.task import accuracy
from transferset.errors import DataError, NumericError
from transferset.models.preprocessing import Preprocessing

RUN = np.array([[2.0, 1.0], [0.0, 3.0], [1.0, 1.5]], np.float32)
LABELS = np.array([0, 1, 0])


def _parity(model: np.ndarray, labels: np.ndarray | None = LABELS, allowed: float = 0.0) -> Parity:
    return compare(Answers({REFERENCE: RUN, "m": model}, [0, 1, 2]), "m", labels, accuracy, allowed)


def test_small_differences_pass_and_large_ones_do_not() -> None:
    near = _parity(RUN + np.float32(1e-4))
    assert near.max_difference == pytest.approx(1e-4, rel=0.01) and near.top1_changed == 0
    check_same(near, "m", 1e-3)
    with pytest.raises(NumericError, match="differ by up to"):
        check_same(near, "m", 1e-5)


def test_another_answer_fails_where_it_was_clear() -> None:
    changed = RUN.copy()
    changed[2] = (1.5, 1.0)
    parity = _parity(changed, allowed=0.2)
    assert (parity.top1_changed, parity.near_ties, parity.answers_changed) == (1, 0, 1)
    with pytest.raises(NumericError, match=r"up to 0\.5 \(allowed 0\.2\) and 1 of 3 answers changed"):
        check_same(parity, "m", 0.2)


def test_a_near_tie_may_turn_over() -> None:
    run = RUN + np.array([[0.0, 0.0], [0.0, 0.0], [0.4999, 0.0]], np.float32)
    turned = run + np.array([[0.0, 0.0], [0.0, 0.0], [1e-4, -1e-4]], np.float32)
    answers = Answers({REFERENCE: run, "m": turned}, [0, 1, 2])
    parity = compare(answers, "m", None, accuracy, 1e-3)
    assert (parity.top1_changed, parity.near_ties, parity.answers_changed) == (1, 1, 0)
    check_same(parity, "m", 1e-3)
    assert changed_answers(asdict(parity)) == "0 of 3 (and 1 near ties)"
    with pytest.raises(NumericError, match=r"0 of 3 answers changed, not counting 1 near ties"):
        check_same(compare(answers, "m", None, accuracy, 9e-5), "m", 9e-5)
    assert compare(answers, "m", None, accuracy, 4e-5).answers_changed == 1


def test_a_single_class_has_no_ties() -> None:
    one = Answers({REFERENCE: RUN[:, :1], "m": RUN[:, :1]}, [0, 1, 2])
    assert compare(one, "m", None, accuracy, 1.0).top1_changed == 0


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


def test_answers_are_joined_where_both_have_one() -> None:
    one = Answers({"a": np.array([[0.0], [2.0], [3.0]])}, [0, 2, 3])
    both = joined(one, Answers({"b": np.array([[1.0], [2.0], [4.0]])}, [1, 2, 4]))
    assert both.places == [2] and both.logits["a"] == both.logits["b"] == np.array([[2.0]])


def test_parts_have_other_sizes_and_are_never_empty(picture) -> None:
    images = np.empty(5, object)
    images[:] = [picture(30, 20, number) for number in range(4)] + [np.zeros((1, 1, 3), np.uint8)]
    parts = parts_of(images)
    assert [part.shape for part in parts[:4]] == [(20, 20, 3), (13, 30, 3), (10, 15, 3), (20, 7, 3)]
    assert parts[4].shape == (1, 1, 3) and images[0].shape == (20, 30, 3)


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
