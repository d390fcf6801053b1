import pytest

from distill.loop.plan import Plan
from transferset.errors import UsageError


def test_epochs_become_steps() -> None:
    recipe = Plan(epochs=1.5, batch_size=10).recipe(samples=101, default_epochs=9, default_lr=0.3, seed=4)
    assert (recipe.steps, recipe.lr, recipe.seed, recipe.end) == (16, 0.3, 4, 16)
    assert recipe.eval_every == 2 and recipe.checkpoint_every == 2
    assert Plan(batch_size=10).recipe(100, 2, 0.3, 0).steps == 20
    assert Plan(steps=7, lr=0.5).recipe(100, 2, 0.3, 0).lr == 0.5
    assert Plan(steps=100_000).recipe(100, 2, 0.3, 0).checkpoint_every == 500
    assert Plan(steps=7, eval_every=0, checkpoint_every=3).recipe(100, 2, 0.3, 0).eval_every == 0


def test_more_steps_than_can_be_counted_are_refused() -> None:
    with pytest.raises(UsageError, match="are more than 2,147,483,647"):
        Plan(epochs=1e30).recipe(100, 2, 0.3, 0)


@pytest.mark.parametrize(
    "values",
    [
        {"steps": 1, "epochs": 1.0},
        {"steps": 0},
        {"lr": -1.0},
        {"lr": float("nan")},
        {"patience": -1},
        {"accumulate": 0},
        {"accumulate": 65},
    ],
)
def test_impossible_plans_are_usage_errors(values: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Plan(**values)  # type: ignore[arg-type]
