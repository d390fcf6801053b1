"""A recipe is checked once, and every error names its key."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill.comparison.cells import cells_of, identity
from distill.comparison.labels import load_task
from distill.comparison.recipe_file import load_recipe
from distill.comparison.teacher_options import adapt_options
from distill.loop.plan import Plan
from distill.models.text_head import TextOptions
from distill.stages.adapt_options import AdaptOptions, Tuning
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


def test_the_task_of_a_recipe_may_be_lists_beside_it(write_recipe: Write, tmp_path: Path) -> None:
    (tmp_path / "images" / "cat").mkdir(parents=True)
    for split in ("train", "val", "test"):
        (tmp_path / "images" / "cat" / f"{split}.jpg").write_bytes(b"not opened")
        (tmp_path / f"{split}.txt").write_text(f"{split}.jpg,cat\n")
    lists = "train=train.txt,val=val.txt,test=test.txt"
    for task in ({"task": f"{lists},root=images"}, {"task": lists, "image_root": "images"}):
        found = load_task(load_recipe(write_recipe(**task)).task)
        assert [image.path for image in found.images] == [
            tmp_path / "images" / "cat" / f"{split}.jpg" for split in ("train", "val", "test")
        ]


def test_balanced_accuracy_balances_the_teacher(write_recipe: Write) -> None:
    assert load_recipe(write_recipe()).teachers[0].options == {}
    balanced = load_recipe(write_recipe(metric="balanced_accuracy"))
    assert balanced.teachers[0].options == {"class_weight": "balanced"}


def test_a_teacher_has_the_options_of_adapt(write_recipe: Write, tmp_path: Path) -> None:
    (tmp_path / "said.txt").write_text("a photo of a {}\n{}")
    teacher = {"spec": "embedded", "image_size": 32, "tune": "lp-ft", "retention": 0.5, "lr": "1e-4"}
    teacher |= {"steps": 7, "train_batch_size": 5, "layer_decay": 0.7, "augment": "light", "patience": 2}
    teacher |= {"folds": 3, "flip": False, "batch_size": 16, "precision": "fp32", "class_weight": "balanced"}
    teacher |= {"templates": "said.txt", "class_names": {"red": "a red one"}}
    recipe = load_recipe(write_recipe(teacher=teacher))
    found = adapt_options(recipe.teachers[0], tmp_path, tmp_path / "out", seed=4, runtime="eager")
    plan = Plan(steps=7, batch_size=5, lr=1e-4, patience=2)
    assert found == AdaptOptions(
        data=tmp_path,
        teacher="embedded",
        out=tmp_path / "out",
        image_size=32,
        flip=False,
        class_weight="balanced",
        folds=3,
        seed=4,
        runtime="eager",
        precision="fp32",
        batch_size=16,
        text=TextOptions(("a photo of a {}", "{}"), {"red": "a red one"}),
        tuning=Tuning("lp-ft", plan, layer_decay=0.7, retention=0.5, augment="light"),
    )
    cell = cells_of(recipe)[0]
    written = identity(cell, recipe, "labels", None)
    assert json.loads(json.dumps(written)) == written  # what a resumed cell is compared with
    (tmp_path / "said.txt").write_text("{}")
    again = load_recipe(write_recipe(teacher=teacher))
    assert identity(cells_of(again)[0], again, "labels", None) != written  # what the file says counts


def test_a_plain_teacher_is_the_one_of_adapt(write_recipe: Write, tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(teacher={"spec": "embedded"}))
    found = adapt_options(recipe.teachers[0], tmp_path, tmp_path)
    assert found == AdaptOptions(tmp_path, "embedded", tmp_path)
    assert recipe.teachers[0].options == {}  # cells that were made before are still the same


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
        ({"labels": [0]}, "labels must be images per class"),
        ({"labels": [5, 5]}, "labels must be"),
        ({"seeds": "x"}, "seeds must be a list of numbers"),
        ({"seeds": [99999999999]}, "seeds: the number is larger than 2147483647"),
        ({"train": {"steps": 10**23}}, "train.steps: the number is larger than 2147483647"),
        ({"train": {"lr": 10**400}}, "train.lr must be a number above 0"),
        ({"runtime": "foo"}, "runtime must be auto or eager or compile or openvino, not 'foo'"),
        ({"metric": "f1"}, "metric must be top1 or balanced_accuracy"),
        ({"metrics": "top1"}, "unknown key metrics"),
        ({"task": None}, "task is missing"),
        ({"task": "dev=a.txt"}, "dev= is none of train, val, test"),
        ({"image_root": "nowhere"}, "nowhere is not a folder"),
        ({"teacher": None}, "give either teacher or teachers"),
        ({"teacher": {"spec": "nonsense"}}, "teacher.spec must be a model's spec"),
        ({"teacher": {"spec": "embedded", "seed": 3}}, "unknown key teacher.seed"),
        ({"teacher": {"spec": "embedded", "tuning": {"mode": "lp-ft"}}}, "unknown key teacher.tuning"),
        ({"teacher": {"spec": "embedded", "tune": "magic"}}, "teacher.tune must be head or lp-ft"),
        ({"teacher": {"spec": "embedded", "folds": "x"}}, "teacher.folds must be a number of at least 2"),
        ({"teacher": {"spec": "embedded", "folds": 1}}, "teacher.folds must be a number of at least 2"),
        ({"teacher": {"spec": "embedded", "batch_size": "64"}}, "teacher.batch_size must be a number"),
        ({"teacher": {"spec": "embedded", "flip": "no"}}, "teacher.flip must be true or false, not 'no'"),
        ({"teacher": {"spec": "embedded", "precision": 16}}, "teacher.precision must be auto or fp32"),
        ({"teacher": {"spec": "embedded", "max_error_rate": 2}}, "teacher.max_error_rate must be a number"),
        ({"teacher": {"spec": "embedded", "class_names": 3}}, "teacher.class_names must be a mapping"),
        ({"teacher": {"spec": "embedded", "templates": "gone.txt"}}, "teacher.templates: --templates"),
        ({"teacher": {"spec": "embedded", "templates": ["a cat"]}}, "teacher: the template 'a cat' has 0"),
        ({"teacher": {"spec": "embedded", "retention": 1}}, "teacher: --retention is for finetuning"),
        ({"teacher": {"spec": "embedded", "tune": "full", "steps": 2, "epochs": 3}}, "teacher: --steps and"),
        (
            {"teachers": {"t": {"spec": "embedded", "tune": "full", "blocks": 2}}, "teacher": None},
            "teachers.t: -",
        ),
        ({"teachers": {"a/b": {"spec": "embedded"}}, "teacher": None}, "teachers.a/b"),
        ({"student": {"spec": "embedded", "size": 3}}, "unknown key student.size"),
        ({"train": {"steps": 4, "epochs": 2}}, "train has both steps and epochs"),
        ({"train": {"lr": -1}}, "train.lr must be a number above 0"),
        ({"train": {"feature_weight": -1}}, "train.feature_weight must be a number of at least 0"),
        ({"train": {"feature_weight": float("inf")}}, "train.feature_weight must be a number of at least 0"),
        ({"train": [1]}, "train must be a mapping"),
        ({"methods": ["magic"]}, "methods must be a list chosen from"),
        ({"methods": ["pretrained"]}, "needs student.pretrained"),
        ({"transfer_sets": None}, "transfer_sets is missing"),
        ({"transfer_sets": {"../up": "x"}}, "transfer_sets.../up"),
        ({"labels_only": {"augments": ["wild"]}}, "labels_only.augments must be a list chosen from"),
        ({"finetune": "yes"}, "finetune must be a mapping"),
        ({"finetune": {"backbone_lr_scale": 5}}, "a number above 0, at most 1"),
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
    contents = ("a: [1", "- 1\n- 2", "!!python/object/apply:os.system ['false']", "\0", "task: 2024-99-99")
    for content in contents:
        path.write_text(content)
        with pytest.raises(UsageError, match=r"not YAML|must be a mapping"):
            load_recipe(path)


def test_a_key_stands_once(write_recipe: Write) -> None:
    """In every mapping; what `<<` brings along may be given otherwise."""
    path = write_recipe(train=None)
    plain = path.read_text()
    path.write_text(f"{plain}train: {{steps: 4, 'steps': 5}}\n")
    with pytest.raises(UsageError, match=r"recipe\.yaml: line \d+: the key steps is given twice"):
        load_recipe(path)
    path.write_text(f"{plain}train: &usual {{steps: 4, views: 3}}\nlabels: [9]\n")
    with pytest.raises(UsageError, match="the key labels is given twice"):
        load_recipe(path)
    merged = "teacher: &model {spec: embedded, image_size: 32}\nstudent: {<<: *model, image_size: 24}\n"
    path.write_text(write_recipe(teacher=None, student=None).read_text() + merged)
    found = load_recipe(path)
    assert (found.teachers[0].image_size, found.student.image_size) == (32, 24)
