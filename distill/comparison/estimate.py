"""What a comparison is going to cost: FLOPs counted on the models, seconds from a short probe of them or from
cells that are done."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.comparison.cells import Cell, cells_of, chosen
from distill.comparison.compare_options import CompareOptions
from distill.comparison.costs import total
from distill.comparison.labels import count_drawn, load_task, tell_short
from distill.comparison.recipe import FULL, LABELS_ONLY, OWN, PRETRAINED, TEACHER, Recipe
from distill.comparison.recipe_file import load_recipe
from distill.comparison.runner import DONE, Outcome, outcome_of
from distill.comparison.teacher_options import adapt_options
from distill.data.transfer_shards import open_transfer_shards
from distill.loop.execution import torch_threads
from distill.models.flops import flops_per_image
from distill.models.head_selection import why_val_does_not_suffice
from distill.stages.adapt_options import FROZEN
from distill.stages.finetune_inputs import FROM_RUN_EPOCHS
from distill.stages.train_inputs import DEFAULT_EPOCHS
from distill.stages.tuning_inputs import tuning_recipe
from distill.task import CLASSIFICATION
from transferset.errors import TransfersetError
from transferset.labelled import LabelledSet

_FORWARD_SHARE = 1 / 3  # of a training step
_PROBE_BATCH, _PROBE_SECONDS = 16, 1.0


@dataclass(frozen=True)
class Rate:
    """One model: FLOPs and seconds of an image."""

    flops: float
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """One cell: its status, images that a student (or a teacher that is finetuned) trains on and that a
    teacher sees, FLOPs, seconds (None: it cannot be said, for the `reason`)."""

    cell: Cell
    status: str
    student_images: int = 0
    teacher_images: int = 0
    flops: float | None = None
    seconds: float | None = None
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        names = ("status", "student_images", "teacher_images", "flops", "seconds", "reason")
        return {"name": self.cell.name, **{name: getattr(self, name) for name in names}}


def estimate(options: CompareOptions) -> list[Estimate]:
    """The cells of a recipe with what they are going to cost; nothing is written. Raises as `compare`
    does."""
    recipe = load_recipe(options.recipe)
    task = load_task(recipe.task)
    tell_short(task, recipe.labels)
    cells = chosen(cells_of(recipe), options.only)
    outcomes = [outcome_of(options.directory, cell) for cell in cells]
    resolved = options.execution.resolve()
    with torch_threads(resolved["threads"]):
        rates = _Rates(recipe, task, str(resolved["device"]))
        return [_one(outcome, recipe, task, rates) for outcome in outcomes]


class _Rates:
    """Rates of the recipe's models, each probed when it is first needed."""

    def __init__(self, recipe: Recipe, task: LabelledSet, device: str) -> None:
        self.recipe = recipe
        self.task = task
        self.device = device
        self._known: dict[tuple[str, str, int | None, bool], Rate] = {}

    def student(self, spec: str) -> Rate:
        """Of training; raises TransfersetError where the model cannot be had."""
        size = self.recipe.student.image_size
        key = ("student", spec, size, True)
        if key not in self._known:
            student = CLASSIFICATION.build_student(spec, self.task.classes, size, 0)
            module = student.module.to(self.device)
            self._known[key] = _probe(module, student.preprocessing.size, backward=True)
        return self._known[key]

    def teacher(self, spec: str, size: int | None) -> Rate:
        """Of looking at images, in eager mode; a faster runtime takes less."""
        return self._frozen_or_tuned(spec, size, backward=False)

    def tuned(self, spec: str, size: int | None) -> Rate:
        """Of finetuning a teacher's whole backbone."""
        return self._frozen_or_tuned(spec, size, backward=True)

    def _frozen_or_tuned(self, spec: str, size: int | None, *, backward: bool) -> Rate:
        key = ("teacher", spec, size, backward)
        if key not in self._known:
            from transferset.models.backbone import load_backbone

            backbone = load_backbone(spec, image_size=size)
            module = backbone.module.to(self.device).requires_grad_(backward)
            self._known[key] = _probe(module, backbone.preprocessing.size, backward=backward)
        return self._known[key]


def _probe(module: Any, size: int, *, backward: bool) -> Rate:
    import torch

    device = next(module.parameters()).device
    images = torch.from_numpy(np.zeros((_PROBE_BATCH, 3, size, size), np.float32)).to(device)
    module.train(backward)
    start, seen = None, 0
    with torch.set_grad_enabled(backward):
        while start is None or time.perf_counter() - start < _PROBE_SECONDS:
            outputs = module(images)
            if backward:
                outputs.sum().backward()
            outputs.detach().sum().item()  # waits for a GPU
            if start is None:
                start = time.perf_counter()  # the first batch warms up
            else:
                seen += _PROBE_BATCH
    return Rate(
        flops_per_image(module, size, backward=backward), (time.perf_counter() - start) / max(seen, 1)
    )


def _one(outcome: Outcome, recipe: Recipe, task: LabelledSet, rates: _Rates) -> Estimate:
    cell = outcome.cell
    if outcome.status == DONE and outcome.work is not None:
        spent = total(outcome.work.costs)
        return Estimate(cell, DONE, 0, 0, spent.flops, spent.seconds)
    labelled = count_drawn(task, cell.labels)
    try:
        if cell.method == TEACHER:
            seen, tuned = 2 * labelled + len(task.split("val").images), _tuned_images(cell, task, labelled)
            return _priced(
                outcome, tuned, seen, _tuned(cell, rates) if tuned else None, _teacher(cell, rates)
            )
        if cell.method in (LABELS_ONLY, PRETRAINED):
            spec = recipe.student.spec if cell.method == LABELS_ONLY else str(recipe.student.pretrained)
            return _priced(outcome, _grid_images(recipe, cell), 0, rates.student(spec), None)
        student, teacher = _transfer_images(cell, recipe, task, labelled)
        return _priced(outcome, student, teacher, rates.student(recipe.student.spec), _teacher(cell, rates))
    except TransfersetError as error:
        return Estimate(cell, outcome.status, reason=error.message)


def _teacher(cell: Cell, rates: _Rates) -> Rate:
    assert cell.teacher is not None
    return rates.teacher(cell.teacher.spec, cell.teacher.image_size)


def _tuned(cell: Cell, rates: _Rates) -> Rate:
    assert cell.teacher is not None
    return rates.tuned(cell.teacher.spec, cell.teacher.image_size)


def _tuned_images(cell: Cell, task: LabelledSet, labelled: int) -> int:
    """How many a teacher is finetuned on, those of all folds and the last training where val is too small."""
    assert cell.teacher is not None
    options = adapt_options(cell.teacher, task.root, task.root)
    if options.tuning.mode == FROZEN:
        return 0
    numbers = {name: number for number, name in enumerate(task.classes)}
    val = np.array([numbers[str(image.label)] for image in task.split("val").images], np.int64)
    why = why_val_does_not_suffice(val, len(numbers), options.class_weight)
    recipe = tuning_recipe(options, labelled)
    return recipe.steps * recipe.batch_size * (1 if why is None else options.folds + 1)


def _priced(
    outcome: Outcome, student: int, teacher: int, trained: Rate | None, asked: Rate | None
) -> Estimate:
    pairs = [(student, trained), (teacher, asked)]
    flops = sum(images * rate.flops for images, rate in pairs if rate)
    seconds = sum(images * rate.seconds for images, rate in pairs if rate)
    return Estimate(outcome.cell, outcome.status, student, teacher, flops, seconds, outcome.reason)


def _grid_images(recipe: Recipe, cell: Cell) -> int:
    """Of all trials together."""
    grid = recipe.labels_only if cell.method == LABELS_ONLY else recipe.pretrained
    if grid.search == FULL:
        return sum(grid.steps) * len(grid.augments) * len(grid.lrs) * grid.batch_size
    *short, longest = grid.steps
    middle = short[-1] if short else longest
    steps = sum(short or [longest]) * len(grid.augments) + middle * (len(grid.lrs) - 1)
    return (steps + (longest if short else 0)) * grid.batch_size


def _transfer_images(cell: Cell, recipe: Recipe, task: LabelledSet, labelled: int) -> tuple[int, int]:
    """How many a student trains on, finetuning included, and how many the teacher sees."""
    assert cell.transfer_set is not None
    schedule = recipe.schedule
    if cell.transfer_set.path == OWN:
        images = len(task.split("train").images)
    else:
        images = len(
            open_transfer_shards((cell.transfer_set.at(cell.labels, cell.seed, recipe.root),)).samples
        )
    mixed = round(images / (1 - schedule.labelled_share))
    epochs = schedule.epochs or (DEFAULT_EPOCHS if schedule.steps is None else None)
    seen = round(epochs * mixed) if epochs else int(schedule.steps or 0) * schedule.batch_size
    views = seen / mixed if not schedule.views else min(seen / mixed, schedule.views)
    own = 0.0
    if recipe.finetuning is not None:
        given = recipe.finetuning
        own = given.steps * given.batch_size if given.steps else (given.epochs or FROM_RUN_EPOCHS) * labelled
        own += given.head_epochs * labelled
        if given.retention:
            own *= 1 + _FORWARD_SHARE  # the student as it was looks on
    return seen + round(own), round(views * mixed)
