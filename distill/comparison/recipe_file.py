"""Reading a recipe: a YAML file, checked once; every error names its key."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from distill.comparison.recipe import (
    ALL,
    FULL,
    METHODS,
    OWN,
    PRETRAINED,
    STAGED,
    TRANSFERS,
    Finetuning,
    Grid,
    Recipe,
    Schedule,
    Student,
    TransferSet,
)
from distill.comparison.section import (
    Section,
    count,
    flag,
    folder_name,
    model_spec,
    not_negative,
    one_of,
    part,
    positive,
    several,
    share,
    whole,
    words,
)
from distill.comparison.teacher_options import read_teachers
from distill.data.views import AUGMENTATIONS
from distill.methods.transfer import FEATURE_LOSSES
from distill.task import BALANCED, TOP1
from transferset.errors import UsageError
from transferset.label_lists import lists_from, with_image_root
from transferset.models.runtime import RUNTIMES

AUGMENTS = tuple(AUGMENTATIONS)


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, of which SafeLoader keeps the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """The mapping as it is written, before what `<<` names is merged into it."""
        node = super().compose_mapping_node(anchor)
        known = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in known and key.value != "<<":
                raise UsageError(
                    f"line {key.start_mark.line + 1}: the key {key.value} is given twice",
                    hint="remove one of them: only the last would count",
                )
            known.add(key.value)
        return node


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe; UsageError where it is missing, no YAML, or a key does not fit."""
    try:
        values = _Loader(path.read_text("utf-8")).get_single_data()
    except FileNotFoundError as error:
        raise UsageError(f"{path} does not exist") from error
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}", error.hint) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    return read_recipe(path, values)


def read_recipe(path: Path, values: Any) -> Recipe:
    """A recipe out of plain values; `path` is what errors name and where relative paths start."""
    top = Section(path, "", values)
    metric = top.take("metric", one_of(TOP1, BALANCED), f"{TOP1} or {BALANCED}", TOP1)
    schedule = _schedule(top.section("train"))
    student = _student(top.section("student"))
    usual = tuple(one for one in METHODS if one != PRETRAINED or student.pretrained)
    methods = top.take(
        "methods", several(one_of(*METHODS)), f"a list chosen from {', '.join(METHODS)}", usual
    )
    if PRETRAINED in methods and student.pretrained is None:
        raise UsageError(
            f"{path}: the method pretrained needs student.pretrained",
            hint="student.pretrained: timm:NAME, or leave the method out",
        )
    recipe = Recipe(
        source=path,
        task=_task(path, top),
        labels=top.take("labels", several(_budget), "images per class (a number of at least 1), or all"),
        seeds=top.take("seeds", several(whole), "a list of numbers of at least 0", (0, 1, 2)),
        metric=metric,
        teachers=read_teachers(top, metric),
        student=student,
        transfer_sets=_transfer_sets(top.section("transfer_sets")),
        methods=methods,
        schedule=schedule,
        finetuning=_finetuning(top),
        labels_only=_grid(top.section("labels_only"), schedule, (2e-3, 1e-3, 4e-3)),
        pretrained=_grid(top.section("pretrained"), schedule, (1e-3, 3e-4, 2e-3)),
        runtime=top.take("runtime", one_of(*RUNTIMES), " or ".join(RUNTIMES), "auto"),
        costs=_costs(top.section("costs")),
    )
    top.done()
    if not recipe.transfer_sets and set(methods) & set(TRANSFERS):
        raise UsageError(
            f"{path}: transfer_sets is missing", hint="transfer_sets: {own: own, retrieved: PATH}"
        )
    return recipe


def _task(path: Path, top: Section) -> Path:
    given = top.take("task", words, "a folder, table or lists of labelled images")
    root = top.take("image_root", words, "the folder that names in lists or a table are relative to", None)
    try:
        task = lists_from(path.parent, Path(given))
        return task if root is None else with_image_root(task, path.parent / root)
    except UsageError as error:
        raise UsageError(f"{path}: {error.message.replace('--image-root', 'image_root')}") from error


def _budget(value: Any) -> str:
    return ALL if value == ALL else str(count(value))


def _student(section: Section) -> Student:
    student = Student(
        section.take("spec", model_spec, "a model's spec, such as timm:mobilenetv3_small_075@none"),
        section.take("image_size", count, "a number of pixels", None),
        section.take("pretrained", model_spec, "a spec with weights, such as timm:NAME", None),
    )
    section.done()
    return student


def _transfer_sets(section: Section) -> tuple[TransferSet, ...]:
    return tuple(_transfer_set(section, name) for name in section.values)


def _transfer_set(section: Section, name: str) -> TransferSet:
    folder_name(section, name)
    if isinstance(section.values[name], dict):
        inner = section.section(name)
        found = TransferSet(
            name,
            inner.take("path", words, "a path"),
            inner.take("series", words, "a name", None),
            inner.take(
                "methods", several(one_of(*TRANSFERS)), f"a list chosen from {', '.join(TRANSFERS)}", None
            ),
        )
        inner.done()
        return found
    return TransferSet(name, section.take(name, words, f"a path, or {OWN}"))


_POSITIVE, _SHARE = "a number above 0", "a number of at least 0 and less than 1"


def _weight(value: Any) -> float | None:
    """0 is the same as none at all."""
    return not_negative(value) or None


_READERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "steps": (count, "a number of at least 1"),
    "epochs": (positive, _POSITIVE),
    "batch_size": (count, "a number of at least 1"),
    "lr": (positive, _POSITIVE),
    "weight_decay": (not_negative, "a number of at least 0"),
    "views": (whole, "a number of at least 0"),
    "augment": (one_of(*AUGMENTS), " or ".join(AUGMENTS)),
    "labelled_share": (share, _SHARE),
    "temperature": (positive, _POSITIVE),
    "feature_loss": (one_of(*FEATURE_LOSSES), " or ".join(FEATURE_LOSSES)),
    "feature_weight": (_weight, "a number of at least 0"),
    "label_smoothing": (share, _SHARE),
    "head_epochs": (not_negative, "a number of at least 0"),
    "backbone_lr_scale": (part, "a number above 0, at most 1"),
    "retention": (not_negative, "a number of at least 0"),
}


def _read(section: Section, kind: type[Any]) -> dict[str, Any]:
    """The fields of a dataclass whose defaults hold for missing keys."""
    found = {one.name: section.take(one.name, *_READERS[one.name], one.default) for one in fields(kind)}
    if found["steps"] is not None and found["epochs"] is not None:
        raise UsageError(f"{section.source}: {section.name} has both steps and epochs", hint="give one")
    section.done()
    return found


def _schedule(section: Section) -> Schedule:
    return Schedule(**_read(section, Schedule))


def _finetuning(top: Section) -> Finetuning | None:
    given = top.values.get("finetune", True)
    if isinstance(given, bool):
        return Finetuning() if top.take("finetune", flag, "true, false or a mapping", True) else None
    return Finetuning(**_read(top.section("finetune"), Finetuning))


def _grid(section: Section, schedule: Schedule, lrs: tuple[float, ...]) -> Grid:
    """By default schedules of a sixteenth, a quarter and all of the steps of a transfer."""
    longest = schedule.steps or 1600
    steps = tuple(sorted({max(1, longest // 16), max(1, longest // 4), longest}))
    some = f"a list chosen from {', '.join(AUGMENTS)}"
    usual = tuple(one for one in AUGMENTS if one != "none")
    found = Grid(
        tuple(sorted(section.take("steps", several(count), "a list of numbers of steps", steps))),
        section.take("augments", several(one_of(*AUGMENTS)), some, usual),
        section.take("lrs", several(positive), "a list of numbers above 0", lrs),
        section.take("search", one_of(STAGED, FULL), f"{STAGED} or {FULL}", STAGED),
        section.take("batch_size", count, "a number of at least 1", schedule.batch_size),
    )
    section.done()
    return found


def _costs(section: Section) -> dict[str, dict[str, float]]:
    found = {}
    for name in section.values:
        inner = section.section(name)
        found[name] = {
            what: inner.take(what, not_negative, "a number of at least 0", 0.0)
            for what in ("images", "seconds", "flops")
        }
        inner.done()
    return found
