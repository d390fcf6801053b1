"""The answers to the test images, and which rows are compared with which."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distill.comparison.recipe import LABELS_ONLY, PRETRAINED, TEACHER, TRANSFERS, Recipe
from distill.comparison.runner import DONE, Outcome
from distill.methods.transfer import TASK_ORIENTED
from distill.statistics import Difference, Spread, paired_difference, spread
from distill.task import BALANCED, CLASSIFICATION
from transferset.errors import DataError

Key = tuple[str, str, str, str]
"""Method, transfer set, teacher, label budget."""


@dataclass(frozen=True, eq=False)
class Answers:
    """Of one model: `images` by name, their class numbers `labels` (n,), `probabilities` (n, C)."""

    images: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray
    classes: tuple[str, ...]

    @property
    def right(self) -> np.ndarray:
        """(n,) bool."""
        right: np.ndarray = self.probabilities.argmax(axis=1) == self.labels
        return right

    def score(self, metric: str) -> float:
        """The metric of these answers."""
        return CLASSIFICATION.scores[metric](self.probabilities, self.labels)

    def on(self, images: Sequence[str]) -> "Answers":
        """Those to some of the images, in their order."""
        place = {name: number for number, name in enumerate(self.images)}
        rows = np.array([place[name] for name in images], np.int64)
        return Answers(tuple(images), self.labels[rows], self.probabilities[rows], self.classes)


def read_answers(outcome: Outcome) -> Answers:
    """What `distill evaluate --predictions` wrote; DataError where it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = outcome.predictions
    try:
        table = pq.read_table(path)
        classes = tuple(json.loads(table.schema.metadata[b"classes"]))
        numbers = {name: number for number, name in enumerate(classes)}
        labels = np.array([numbers[name] for name in table["label"].to_pylist()], np.int64)
        flat = table["probabilities"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        probabilities = flat.reshape(len(labels), len(classes))
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error!r}", hint="remove it and run again") from error
    return Answers(tuple(table["image"].to_pylist()), labels, probabilities, classes)


@dataclass(frozen=True, eq=False)
class Row:
    """One row of the table: what was done with which labels, by seed."""

    key: Key
    outcomes: dict[int, Outcome]
    answers: dict[int, Answers]
    metric: str

    @property
    def method(self) -> str:
        """The row's method."""
        return self.key[0]

    @property
    def labels(self) -> str:
        """The label budget."""
        return self.key[3]

    @property
    def name(self) -> str:
        """As tables call it, without the label budget."""
        method, transfer_set, teacher, _ = self.key
        by = f", {teacher}" if teacher and teacher != TEACHER else ""
        return (f"{method} + {transfer_set}" if transfer_set else method) + by

    @property
    def scores(self) -> dict[int, float]:
        """The metric on test by seed."""
        return {seed: answers.score(self.metric) for seed, answers in self.answers.items()}

    @property
    def spread(self) -> Spread:
        """Over seeds."""
        return spread(list(self.scores.values()))

    @property
    def set_images(self) -> float | None:
        """Images of the transfer set, mean over seeds."""
        found = [one.work.set_images for one in self.outcomes.values() if one.work and one.work.set_images]
        return float(np.mean(found)) if found else None


def rows_of(outcomes: Sequence[Outcome], metric: str) -> list[Row]:
    """The finished cells as rows, in order of appearance; all answers on the images that all have."""
    done = [one for one in outcomes if one.status == DONE]
    answers = [read_answers(one) for one in done]
    common = _common(answers)
    rows: dict[Key, Row] = {}
    for outcome, found in zip(done, answers, strict=True):
        key = (*outcome.cell.row, outcome.cell.labels)
        row = rows.setdefault(key, Row(key, {}, {}, metric))
        row.outcomes[outcome.cell.seed] = outcome
        row.answers[outcome.cell.seed] = found.on(common)
    return list(rows.values())


def _common(answers: Sequence[Answers]) -> list[str]:
    if not answers:
        return []
    others = [set(one.images) for one in answers[1:]]
    common = [name for name in answers[0].images if all(name in other for other in others)]
    if not common:
        raise DataError(
            "the cells have answered to different test images", hint="give --out another directory"
        )
    return common


@dataclass(frozen=True)
class Compared:
    """Two rows with the same labels, or different ones for a learning curve: `first` minus `second`, over the
    `seeds` that both have; `alone` are those that one of them lacks, which count for nothing here."""

    first: Row
    second: Row
    difference: Difference
    seeds: tuple[int, ...]
    alone: tuple[int, ...] = ()


def compared(first: Row, second: Row) -> Compared | None:
    """The paired difference; None where they have no seed in common."""
    seeds = tuple(sorted(first.answers.keys() & second.answers.keys()))
    if not seeds:
        return None
    pair = [np.stack([row.answers[seed].right for seed in seeds]) for row in (first, second)]
    labels = first.answers[seeds[0]].labels if first.metric == BALANCED else None
    difference = paired_difference(pair[0], pair[1], labels, same_seeds=True)
    alone = tuple(sorted(first.answers.keys() ^ second.answers.keys()))
    return Compared(first, second, difference, seeds, alone)


def reference(rows: Sequence[Row], recipe: Recipe, labels: str) -> Row | None:
    """What the others of a label budget are compared with: task-oriented on the recipe's last transfer set
    (else the first method that is there)."""
    order = [TASK_ORIENTED, *(one for one in TRANSFERS if one != TASK_ORIENTED), PRETRAINED, LABELS_ONLY]
    sets = [one.name for one in recipe.transfer_sets]
    candidates = [row for row in rows if row.labels == labels and row.method in order]
    return min(
        candidates,
        key=lambda row: (order.index(row.method), -sets.index(row.key[1]) if row.key[1] else 0),
        default=None,
    )


def differences(rows: Sequence[Row], recipe: Recipe) -> list[Compared]:
    """The reference against every other row, budget by budget, where they have a seed in common."""
    found = [compared(*pair) for pair in _pairs(rows, recipe)]
    return [one for one in found if one is not None]


def without_common_seed(rows: Sequence[Row], recipe: Recipe) -> list[tuple[Row, Row]]:
    """The pairs that `differences` lacks."""
    pairs = _pairs(rows, recipe)
    return [(one, other) for one, other in pairs if not one.answers.keys() & other.answers.keys()]


def _pairs(rows: Sequence[Row], recipe: Recipe) -> list[tuple[Row, Row]]:
    found = []
    for labels in recipe.labels:
        ours = reference(rows, recipe, labels)
        others = [row for row in rows if row.labels == labels and row is not ours]
        found += [(ours, row) for row in others if ours is not None]
    return found
