"""Rows of a comparison whose answers are made up: three seeds, of which nothing was trained."""

from pathlib import Path

import numpy as np

from distill.comparison.answers import Answers, Row
from distill.comparison.cells import Cell
from distill.comparison.costs import Cost
from distill.comparison.recipe import Recipe, Teacher, TransferSet
from distill.comparison.recipe_file import read_recipe
from distill.comparison.runner import DONE, Outcome
from distill.comparison.work import Work

HOSTILE = "<script>alert(1)</script>"
CLASSES = ("cat", HOSTILE, "dog")


def a_recipe(labels: list[int]) -> Recipe:
    values = {
        "task": "task",
        "labels": labels,
        "teacher": {"spec": "embedded"},
        "student": {"spec": "timm:test_efficientnet@none"},
        "transfer_sets": {"random": "a", "retrieved": "b"},
    }
    return read_recipe(Path("recipe.yaml"), values)


def a_row(method: str, transfer_set: str, labels: str, share: float, images: int = 300) -> Row:
    """Three seeds, each right in about `share` of the images."""
    by_seed, outcomes = {}, {}
    classes = np.arange(images) % 3
    for seed in range(3):
        random = np.random.default_rng([seed, int(100 * share)])
        said = np.where(random.random(images) < share, classes, (classes + 1) % 3)
        probabilities = np.full((images, 3), 0.1)
        probabilities[np.arange(images), said] = 0.8
        names = tuple(f"{number}.png" for number in range(images))
        by_seed[seed] = Answers(names, classes, probabilities, CLASSES)
        costs = [
            Cost("adapt", 0, 0.0, 3.0, shared=True),
            Cost("train", 0, 0.0, 9.0),
            Cost("train: student", 100, 1e9, 0.0),
            Cost("train: teacher", 50, 5e9, 0.0),
            Cost("train: evaluate", 20, 1e8, 0.0),
            Cost("train: head", 30, 0.0, 0.0),
            Cost("finetune: student", 7, 7e9, 4.0, tuning=True),
        ]
        teacher = Teacher("teacher", "embedded") if method != "labels-only" else None
        where = TransferSet(transfer_set, "x") if transfer_set else None
        cell = Cell(method, labels, seed, teacher, where)
        work = Work({"top1": share}, costs, label_images=3 * int(labels), set_images=200 if where else None)
        outcomes[seed] = Outcome(cell, Path("x"), DONE, work)
    return Row((*outcomes[0].cell.row, labels), outcomes, by_seed, "top1")


def of_seeds(row: Row, *seeds: int) -> Row:
    """What of the row was made under these seeds."""
    outcomes = {seed: row.outcomes[seed] for seed in seeds}
    return Row(row.key, outcomes, {seed: row.answers[seed] for seed in seeds}, row.metric)
