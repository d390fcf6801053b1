from itertools import pairwise

import pytest

from distill.loop.schedule import averaging_decay, learning_rate


def test_it_rises_then_falls_to_nearly_nothing() -> None:
    rates = [learning_rate(step, 200, 0.5, 0.05) for step in range(200)]
    assert rates[:10] == pytest.approx([0.05 * (step + 1) for step in range(10)])
    assert max(rates) == 0.5 and rates[10] == 0.5
    assert all(later < earlier for earlier, later in pairwise(rates[10:]))
    assert rates[105] == pytest.approx(0.25, rel=1e-6) and 0 < rates[-1] < 1e-4


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_very_short_runs_learn(steps: int) -> None:
    assert all(learning_rate(step, steps, 1.0, 0.05) > 0 for step in range(steps))


def test_the_average_looks_back_over_a_share_of_the_run() -> None:
    assert averaging_decay(10) == 0.9
    assert averaging_decay(2000) == pytest.approx(0.99)
    assert averaging_decay(10**7) == 0.9998
