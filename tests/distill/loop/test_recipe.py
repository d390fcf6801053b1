import pytest

from distill.loop.recipe import HeadFirst, Recipe
from distill.loop.schedule import learning_rate


def test_one_schedule_over_all_steps() -> None:
    recipe = Recipe(steps=10, batch_size=4, lr=0.1)
    assert [recipe.rate(step) for step in range(10)] == [
        learning_rate(step, 10, 0.1, 0.05) for step in range(10)
    ]


def test_the_head_has_a_schedule_of_its_own_before_the_rest() -> None:
    recipe = Recipe(steps=10, batch_size=4, lr=0.1, head=HeadFirst(4))
    rates = [recipe.rate(step) for step in range(10)]
    assert rates[:4] == [learning_rate(step, 4, 0.1, 0.05) for step in range(4)]
    assert rates[4:] == [learning_rate(step, 6, 0.1, 0.05) for step in range(6)]
    assert rates[4] == pytest.approx(0.1) and rates[3] < rates[4]


def test_what_a_resumed_run_may_change_stands_apart() -> None:
    """Runs that were begun before batches could be divided go on: one part is not mentioned."""
    values, free = Recipe(steps=10, batch_size=4, lr=0.1, checkpoint_every=3).to_dict()
    assert free == {"checkpoint_every": 3, "log_every": 25} and values["accumulate"] is None
    assert Recipe(steps=10, batch_size=4, lr=0.1, accumulate=2).to_dict()[0]["accumulate"] == 2
