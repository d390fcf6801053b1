"""What a comparison has compared, and how it was measured, in sentences."""

from collections.abc import Sequence

from distill.comparison.answers import Row
from distill.comparison.comparison import Comparison
from distill.comparison.plots import metric_name
from distill.comparison.recipe import ALL, Recipe, Teacher, budget
from distill.comparison.runner import DONE


def summary(comparison: Comparison) -> list[str]:
    """The measure and what it was taken on; models and sets; how far the comparison is."""
    recipe = comparison.recipe
    return [
        f"Measured: {metric_name(recipe.metric)} on {_test(comparison.rows)} ({recipe.task.name}), of"
        f" finished "
        "models; steps and settings were chosen on val alone.",
        f"{_models(recipe)} {_labels(recipe)}{_short(comparison.rows, recipe)}",
        _progress(comparison),
    ]


def _test(rows: Sequence[Row]) -> str:
    answers = next((one for row in rows for one in row.answers.values()), None)
    if answers is None:
        return "the test images"
    return f"{len(answers.images):,} test images of {len(answers.classes):,} classes"


def _models(recipe: Recipe) -> str:
    student = recipe.student
    found = f"Student: {student.spec}{_size(student.image_size)}"
    if student.pretrained is not None:
        found += f", pretrained: {student.pretrained}"
    teachers = "; ".join(_teacher(one) for one in recipe.teachers)
    sets = ", ".join(one.name for one in recipe.transfer_sets)
    return f"{found}. Teacher: {teachers}." + (f" Transfer sets: {sets}." if sets else "")


def _teacher(teacher: Teacher) -> str:
    options = "".join(f", {name} {value}" for name, value in sorted(teacher.options.items()))
    return f"{teacher.spec}{_size(teacher.image_size)}{options}"


def _size(pixels: int | None) -> str:
    return "" if pixels is None else f" at {pixels} px"


def _labels(recipe: Recipe) -> str:
    numbers = [one for one in recipe.labels if one != ALL]
    budgets = [f"{' and '.join(numbers)} per class"] if numbers else []
    budgets += ["all there are"] if ALL in recipe.labels else []
    seeds = len(recipe.seeds)
    drawn = f"drawn anew for each of {seeds} seeds" if seeds > 1 else "for a single seed"
    return f"Labels: {', and '.join(budgets)}, {drawn}."


def _short(rows: Sequence[Row], recipe: Recipe) -> str:
    """The budgets that some classes cannot fill, and what they came to."""
    found = ""
    for labels in (one for one in recipe.labels if one != ALL):
        row = next((row for row in rows if row.labels == labels), None)
        if row is None:
            continue
        [work, *_] = [one.work for one in row.outcomes.values() if one.work is not None]
        classes = len(next(iter(row.answers.values())).classes)
        if work.label_images < int(labels) * classes:
            found += f" Not every class has {labels} training images: {budget(labels)} is "
            found += f"{work.label_images:,} labels in total."
    return found


def _progress(comparison: Comparison) -> str:
    done = sum(one.status == DONE for one in comparison.outcomes)
    found = f"{done} of {len(comparison.outcomes)} cells (a method, set, label budget and seed each) are done"
    return f"{found}; the others are listed at the end." if done < len(comparison.outcomes) else f"{found}."
