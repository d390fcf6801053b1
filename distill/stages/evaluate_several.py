"""`distill evaluate` with several models: runs of one recipe, and another recipe, on the same images."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from distill.stages.evaluate import Answers, EvaluateOptions, Evaluation, evaluate_with_answers
from distill.statistics import Difference, OverRuns, over_runs, paired_difference
from distill.task import BALANCED, TOP1
from transferset.console import say
from transferset.errors import DataError, UsageError


@dataclass(frozen=True)
class Comparison:
    """The result: every model's evaluation; the score of the `models` and of those `against` over their runs,
    and the difference of the two, by metric. Without `against`, `to_first` holds the difference of every
    other model to the first."""

    models: tuple[Evaluation, ...]
    against: tuple[Evaluation, ...]
    images: int
    over_models: dict[str, OverRuns]
    over_against: dict[str, OverRuns]
    difference: dict[str, Difference]
    to_first: tuple[dict[str, Difference], ...]

    def to_dict(self) -> dict[str, Any]:
        """One JSON object."""

        def scores(found: dict[str, OverRuns]) -> dict[str, Any] | None:
            return {name: asdict(one) for name, one in found.items()} or None

        def differences(found: dict[str, Difference]) -> dict[str, Any] | None:
            plain = {name: _difference_dict(one) for name, one in found.items()}
            return plain or None

        return {
            "models": [one.to_dict() for one in self.models],
            "against": [one.to_dict() for one in self.against],
            "images": self.images,
            "over_models": scores(self.over_models),
            "over_against": scores(self.over_against),
            "difference": differences(self.difference),
            "to_first": [differences(one) for one in self.to_first],
        }


def _difference_dict(one: Difference) -> dict[str, Any]:
    return {**asdict(one), "verdict": one.verdict, "within_noise": one.within_noise}


def evaluate_several(
    options: EvaluateOptions, models: Sequence[Path], against: Sequence[Path] = ()
) -> Comparison:
    """Evaluate `models`, runs of one recipe, and those `against`, on the same images (`options.model` is not
    looked at).

    Raises as `evaluate` does; UsageError for the same model twice, DataError without images to compare on.
    """
    every = [*models, *against]
    if len({path.resolve() for path in every}) < len(every):
        raise UsageError("the same model is given twice", hint="name every run once")
    if options.predictions is not None:
        raise UsageError("--predictions is for one model", hint="evaluate the models one by one")
    evaluations, answers = [], []
    for path in every:
        evaluation, said = evaluate_with_answers(replace(options, model=path))
        if said is None:
            raise DataError(
                f"{options.data} has no {options.split} images to compare models on",
                hint="give --split val or all, or data with a test split",
            )
        evaluations.append(evaluation)
        answers.append(said)
    right, labels = _right(answers)
    mine, others = right[: len(models)], right[len(models) :]
    by_metric, seed = {TOP1: None, BALANCED: labels}, options.seed
    return Comparison(
        models=tuple(evaluations[: len(models)]),
        against=tuple(evaluations[len(models) :]),
        images=right.shape[1],
        over_models={name: over_runs(mine, given, seed) for name, given in by_metric.items()},
        over_against={
            name: over_runs(others, given, seed) for name, given in by_metric.items() if len(others)
        },
        difference={
            name: paired_difference(mine, others, given, same_seeds=False, seed=seed)
            for name, given in by_metric.items()
            if len(others)
        },
        to_first=tuple(
            {
                name: paired_difference(one[None], mine[:1], given, same_seeds=False, seed=seed)
                for name, given in by_metric.items()
            }
            for one in (mine[1:] if not len(others) else [])
        ),
    )


def _right(answers: list[Answers]) -> tuple[np.ndarray, np.ndarray]:
    """(models, n) whether each is right on the images that all could read, and the labels (n,) of these, as
    numbers of the first model's classes."""
    shared = set(answers[0].places.tolist()).intersection(*(one.places.tolist() for one in answers[1:]))
    if any(len(shared) < len(one.places) for one in answers):
        say(f"compared on the {len(shared)} images that every model's reader could read")
    rows = [np.isin(one.places, sorted(shared)) for one in answers]
    right = [(one.predicted == one.labels)[kept] for one, kept in zip(answers, rows)]
    return np.stack(right), answers[0].labels[rows[0]]
