import numpy as np
import pytest

from distill.comparison import statistics as bootstrap


def answers(share: float, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random((3, 800)) < share).astype(int)


def test_a_clear_gap_is_above() -> None:
    gap = bootstrap.paired_difference(answers(0.6, 1), answers(0.4, 2))
    assert gap.above and gap.low < gap.mean < gap.high
    assert gap.mean == pytest.approx(0.2, abs=0.05)
    assert not bootstrap.paired_difference(answers(0.4, 2), answers(0.6, 1)).above


def test_noise_is_not_above() -> None:
    gap = bootstrap.paired_difference(answers(0.5, 1), answers(0.5, 2))
    assert not gap.above and gap.low < 0 < gap.high


def test_pairing_narrows_the_interval() -> None:
    first = answers(0.5, 1)
    better = first.copy()
    better[:, :40] = 1
    paired = bootstrap.paired_difference(better, first)
    unpaired = bootstrap.paired_difference(better, first[:, ::-1])
    assert paired.above and paired.high - paired.low < unpaired.high - unpaired.low


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="equal"):
        bootstrap.paired_difference(answers(0.5, 1), answers(0.5, 1)[:2])
