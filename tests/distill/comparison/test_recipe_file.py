"""A recipe is checked once, and every error names its key."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill.comparison.cells import cells_of, identity
from distill.comparison.recipe_file import load_recipe
from transferset.errors import UsageError

Write = Callable[..., Path]


def test_a_recipe_is_read(write_recipe: Write) -> None:
    recipe = load_recipe(write_recipe())
    assert recipe.labels == ("3",) and recipe.seeds == (0, 1)
    assert recipe.schedule.lr == 1e-3  # YAML reads 1e-3 as a string
    assert recipe.finetuning is not None and recipe.finetuning.steps == 2
    assert [cell.name for cell in cells_of(recipe)] == [
        "teacher/3-seed0",
        "teacher/3-seed1",
        "task-oriented/pool/3-seed0",
        "labels-only/3-seed0",
        "task-oriented/pool/3-seed1",
        "labels-only/3-seed1",
    ]


def test_sets_of_a_seed_and_a_budget(write_recipe: Write) -> None:
    sets = {"retrieved": {"path": "sets/{labels}-{seed}", "series": "retrieved", "methods": "task-oriented"}}
    recipe = load_recipe(write_recipe(transfer_sets=sets, labels=[1, "all"], methods=["task-agnostic"]))
    assert recipe.transfer_sets[0].at("all", 2, recipe.root) == recipe.root / "sets" / "all-2"
    assert {cell.method for cell in cells_of(recipe)} == {"teacher"}


def test_balanced_accuracy_balances_the_teacher(write_recipe: Write) -> None:
    assert load_recipe(write_recipe()).teachers[0].options == {}
    balanced = load_recipe(write_recipe(metric="balanced_accuracy"))
    assert balanced.teachers[0].options == {"class_weight": "balanced"}


def test_a_feature_weight_is_of_task_oriented_transfer_alone(write_recipe: Write) -> None:
    """And cells that were made before there was one are still the same."""

    def train_of(method: str, **train: float) -> dict[str, Any]:
        recipe = load_recipe(write_recipe(methods=[method], train={"steps": 4, **train}))
        cell = next(cell for cell in cells_of(recipe) if cell.method == method)
        return dict(identity(cell, recipe, "labels", "set")["train"])

    assert train_of("task-oriented", feature_weight=20)["feature_weight"] == 20
    for method in ("task-agnostic", "pseudo-labels"):
        assert train_of(method, feature_weight=20) == train_of(method)
    assert "feature_weight" not in train_of("task-oriented")
    assert train_of("task-oriented", feature_weight=0) == train_of("task-oriented")


def test_finetuning_can_be_left_out(write_recipe: Write) -> None:
    assert load_recipe(write_recipe(finetune=False)).finetuning is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": [0]}, "labels must be images a class"),
        ({"labels": [5, 5]}, "labels must be"),
        ({"seeds": "x"}, "seeds must be a list of numbers"),
        ({"metric": "f1"}, "metric must be top1 or balanced_accuracy"),
        ({"metrics": "top1"}, "unknown key metrics"),
        ({"task": None}, "task is missing"),
        ({"teacher": None}, "give either teacher or teachers"),
        ({"teacher": {"spec": "nonsense"}}, "teacher.spec must be a model's spec"),
        ({"teacher": {"spec": "embedded", "seed": 3}}, "unknown key teacher.seed"),
        ({"teachers": {"a/b": {"spec": "embedded"}}, "teacher": None}, "teachers.a/b"),
        ({"student": {"spec": "embedded", "size": 3}}, "unknown key student.size"),
        ({"train": {"steps": 4, "epochs": 2}}, "train has both steps and epochs"),
        ({"train": {"lr": -1}}, "train.lr must be a number above 0"),
        ({"train": {"feature_weight": -1}}, "train.feature_weight must be a number of at least 0"),
        ({"train": {"feature_weight": float("inf")}}, "train.feature_weight must be a number of at least 0"),
        ({"train": [1]}, "train must be a mapping"),
        ({"methods": ["magic"]}, "methods must be a list out of"),
        ({"methods": ["pretrained"]}, "needs student.pretrained"),
        ({"transfer_sets": None}, "transfer_sets is missing"),
        ({"transfer_sets": {"../up": "x"}}, "transfer_sets.../up"),
        ({"labels_only": {"augments": ["wild"]}}, "labels_only.augments must be a list out of"),
        ({"finetune": "yes"}, "finetune must be a mapping"),
    ],
)
def test_errors_name_the_key(write_recipe: Write, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as error:
        load_recipe(write_recipe(**changes))
    assert words in error.value.message


def test_what_is_no_recipe(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    with pytest.raises(UsageError, match="does not exist"):
        load_recipe(path)
    for content in ("a: [1", "- 1\n- 2", "!!python/object/apply:os.system ['false']", "\0"):
        path.write_text(content)
        with pytest.raises(UsageError, match=r"not YAML|must be a mapping"):
            load_recipe(path)
