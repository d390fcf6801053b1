"""The teachers of a recipe, and how each is adapted: the options of `distill adapt`, in its words."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from distill.comparison.recipe import TEACHER, Teacher
from distill.comparison.section import (
    Section,
    count,
    flag,
    folder_name,
    model_spec,
    not_negative,
    one_of,
    positive,
    several,
    up_to_one,
    whole,
    words,
)
from distill.data.views import AUGMENTATIONS
from distill.loop.execution import Execution
from distill.loop.plan import Plan
from distill.models.heads import CLASS_WEIGHTS
from distill.models.text_head import TextOptions
from distill.stages.adapt_options import BATCH_SIZE, INITS, MODES, AdaptOptions, Tuning, check
from distill.task import BALANCED
from transferset.errors import UsageError
from transferset.models.runtime import PRECISIONS
from transferset.prompts import parse_class_names, read_templates

_COUNT, _NOT_NEGATIVE = "a number of at least 1", "a number of at least 0"
_Reader = tuple[Callable[[Any], Any], str]


def _chosen(*choices: str) -> _Reader:
    return one_of(*choices), " or ".join(choices)


def _folds(value: Any) -> int:
    found = whole(value)
    if found < 2:
        raise ValueError
    return found


_ADAPTED: dict[str, _Reader] = {
    "flip": (flag, "true or false"),
    "class_weight": _chosen(*CLASS_WEIGHTS),
    "folds": (_folds, "a number of at least 2"),
    "drop_near_copies": (flag, "true or false"),
    "precision": _chosen(*PRECISIONS),
    "batch_size": (count, _COUNT),
    "max_pixels": (count, _COUNT),
    "max_error_rate": (up_to_one, "a number of at least 0, at most 1"),
    "init": _chosen(*INITS),
}
_TUNED: dict[str, _Reader] = {
    "tune": _chosen(*MODES),
    "blocks": (count, _COUNT),
    "layer_decay": (up_to_one, "a number above 0, at most 1"),
    "retention": (not_negative, _NOT_NEGATIVE),
    "augment": _chosen(*AUGMENTATIONS),
}
_PLANNED: dict[str, _Reader] = {
    "steps": (count, _COUNT),
    "epochs": (positive, "a number above 0"),
    "train_batch_size": (count, _COUNT),
    "lr": (positive, "a number above 0"),
    "weight_decay": (not_negative, _NOT_NEGATIVE),
    "eval_every": (count, _COUNT),
    "checkpoint_every": (count, _COUNT),
    "patience": (whole, _NOT_NEGATIVE),
}
_FIELDS = {"tune": "mode", "train_batch_size": "batch_size"}
"""Words of the command line that the options' fields are not called by."""


def read_teachers(top: Section, metric: str) -> tuple[Teacher, ...]:
    """`teacher: {…}`, or `teachers: {name: {…}, …}`."""
    one, many = top.section("teacher"), top.section("teachers")
    if bool(one.values) == bool(many.values):
        raise UsageError(
            f"{top.source}: give either teacher or teachers",
            hint="teacher: {spec: embedded, image_size: 160}",
        )
    if one.values:
        return (_teacher(TEACHER, one, metric),)
    return tuple(_teacher(folder_name(many, name), many.section(name), metric) for name in many.values)


def _teacher(name: str, section: Section, metric: str) -> Teacher:
    spec = section.take("spec", model_spec, "a model's spec, such as embedded")
    size = section.take("image_size", count, "a number of pixels", None)
    found = {
        key: section.take(key, *reader, None) for key, reader in {**_ADAPTED, **_TUNED, **_PLANNED}.items()
    }
    found["templates"] = section.take(
        "templates", _templates(section), "a list of sentences with {} in each, or a file of them", None
    )
    found["class_names"] = section.take(
        "class_names", _class_names(section), "a mapping (label: name), a file, or LABEL=NAME,…", None
    )
    section.done()
    options = {"class_weight": "balanced"} if metric == BALANCED else {}
    options |= {key: value for key, value in found.items() if value is not None}
    teacher = Teacher(name, spec, size, options)
    try:
        check(adapt_options(teacher, Path(), Path()))
    except UsageError as error:
        raise UsageError(f"{section.source}: {section.name}: {error.message}", hint=error.hint) from error
    return teacher


def _templates(section: Section) -> Callable[[Any], tuple[str, ...]]:
    def read(value: Any) -> tuple[str, ...]:
        if isinstance(value, list):
            return several(words)(value)
        return read_templates(section.source.parent / words(value))

    return read


def _class_names(section: Section) -> Callable[[Any], dict[str, str]]:
    def read(value: Any) -> dict[str, str]:
        if isinstance(value, dict):
            return {str(label): words(name) for label, name in value.items()}
        path = section.source.parent / words(value)
        return parse_class_names(str(path) if path.is_file() else words(value))

    return read


def adapt_options(
    teacher: Teacher,
    data: Path,
    out: Path,
    *,
    seed: int = 0,
    runtime: str = "auto",
    execution: Execution | None = None,
) -> AdaptOptions:
    """What `distill adapt` is given for this teacher; UsageError for what can not be."""
    options = teacher.options

    def given(names: Mapping[str, Any]) -> dict[str, Any]:
        return {_FIELDS.get(name, name): options[name] for name in names if name in options}

    plan = Plan(**{"batch_size": BATCH_SIZE, **given(_PLANNED)})
    return AdaptOptions(
        data=data,
        teacher=teacher.spec,
        out=out,
        image_size=teacher.image_size,
        seed=seed,
        runtime=runtime,
        execution=execution or Execution(),
        text=TextOptions(**given({"templates": None, "class_names": None})),
        tuning=Tuning(plan=plan, **given(_TUNED)),
        **given(_ADAPTED),
    )
