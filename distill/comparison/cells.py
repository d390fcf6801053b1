"""The cells of a comparison: one method, transfer set, label budget and seed each, with its folder and the
part of the recipe that it depends on."""

import fnmatch
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distill.comparison.recipe import (
    LABELS_ONLY,
    PRETRAINED,
    TEACHER,
    TRANSFERS,
    Recipe,
    Teacher,
    TransferSet,
)
from distill.methods.transfer import TASK_AGNOSTIC, TASK_ORIENTED
from transferset.changes import changes
from transferset.errors import UsageError
from transferset.writes import read_json, write_json

FORMAT_VERSION = 1
ONE_METHODS = {
    "feature_loss": TASK_AGNOSTIC,
    "feature_weight": TASK_ORIENTED,
    "temperature": TASK_ORIENTED,
}
"""Options that only one method has."""
CELL, RESULT, FAILED = "cell.json", "result.json", "failed.json"


@dataclass(frozen=True)
class Cell:
    """`teacher` and `transfer_set` are None where a method has none."""

    method: str
    labels: str
    seed: int
    teacher: Teacher | None = None
    transfer_set: TransferSet | None = None

    @property
    def row(self) -> tuple[str, str, str]:
        """Method, transfer set and teacher: what is compared."""
        return (
            self.method,
            self.transfer_set.name if self.transfer_set else "",
            self.teacher.name if self.teacher else "",
        )

    @property
    def draw(self) -> str:
        """The label budget and the seed, as folders are named."""
        return draw_name(self.labels, self.seed)

    @property
    def name(self) -> str:
        """The cell's folder below `cells/`."""
        method, transfer_set, teacher = self.row
        parts = [method]
        if teacher and teacher != TEACHER:
            parts.append(teacher)
        if transfer_set:
            parts.append(transfer_set)
        return "/".join([*parts, self.draw])


def draw_name(labels: str, seed: int) -> str:
    """A label budget and a seed, as folders are named."""
    return f"{labels}-seed{seed}"


def cells_of(recipe: Recipe) -> list[Cell]:
    """All cells, in the order in which they run: teachers first, then seed by seed what stands in the
    recipe, so that early tables compare everything."""
    draws = [(labels, seed) for labels in recipe.labels for seed in recipe.seeds]
    cells = [Cell(TEACHER, *draw, teacher) for draw in draws for teacher in recipe.teachers]
    for draw in draws:
        for transfer_set in recipe.transfer_sets:
            for teacher in recipe.teachers:
                used = TRANSFERS if transfer_set.methods is None else transfer_set.methods
                methods = [method for method in recipe.methods if method in used]
                cells += [Cell(method, *draw, teacher, transfer_set) for method in methods]
        cells += [Cell(method, *draw) for method in (LABELS_ONLY, PRETRAINED) if method in recipe.methods]
    return cells


def identity(cell: Cell, recipe: Recipe, labels_sha256: str, set_sha256: str | None) -> dict[str, Any]:
    """What a cell depends on, as JSON. What is None is left out: options that come later change no cell that
    was made before."""
    found: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "method": cell.method,
        "labels": {"budget": cell.labels, "seed": cell.seed, "sha256": labels_sha256},
        "metric": recipe.metric,
    }
    if cell.teacher:
        found["teacher"] = {key: value for key, value in asdict(cell.teacher).items() if key != "name"}
    if cell.transfer_set:
        assert set_sha256 is not None
        found["transfer_set"] = {"sha256": set_sha256}
        found["train"] = asdict(recipe.schedule)
        for name, method in ONE_METHODS.items():
            if cell.method != method:
                found["train"].pop(name)
        found["finetune"] = asdict(recipe.finetuning) if recipe.finetuning else False
    if cell.method != TEACHER:
        student = recipe.student
        spec = student.pretrained if cell.method == PRETRAINED else student.spec
        found["student"] = {"spec": spec, "image_size": student.image_size}
    if cell.method in (LABELS_ONLY, PRETRAINED):
        found["grid"] = asdict(recipe.labels_only if cell.method == LABELS_ONLY else recipe.pretrained)
    return _without_none(found)


def claim(folder: Path, given: dict[str, Any]) -> None:
    """Write the cell's identity into its folder; UsageError, showing the difference, where another cell has
    been begun there."""
    found = _begun(folder)
    if found is None:
        write_json(folder / CELL, given)
    else:
        _refuse_changes(folder, found, given)


def refuse_other_recipe(folder: Path, cell: Cell, recipe: Recipe) -> None:
    """UsageError, showing the difference, where the cell was begun by another recipe; its labels and transfer
    set, which need not be there any more, are taken to be the same."""
    found = _begun(folder)
    if found is not None:
        labels, transfer_set = (found.get(name, {}).get("sha256", "") for name in ("labels", "transfer_set"))
        _refuse_changes(folder, found, identity(cell, recipe, labels, transfer_set))


def _begun(folder: Path) -> dict[str, Any] | None:
    """The identity of the cell that was begun in a folder; None: there is none."""
    if not (folder / CELL).exists():
        return None
    begun = (folder / RESULT).exists() or any(entry.is_dir() for entry in folder.iterdir())
    return dict(read_json(folder / CELL)) if begun else None


def _refuse_changes(folder: Path, found: dict[str, Any], given: dict[str, Any]) -> None:
    differing = changes(found, given)
    if differing:
        raise UsageError(
            f"{folder} was made by another recipe: " + "; ".join(differing),
            hint="give --out another directory, or the recipe that it was made by",
        )


def _without_none(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _without_none(value) for key, value in values.items() if value is not None}
    return list(values) if isinstance(values, tuple) else values


def chosen(cells: list[Cell], only: str | None) -> list[Cell]:
    """The cells that match; UsageError where none does."""
    found = [cell for cell in cells if only is None or fnmatch.fnmatchcase(cell.name, only)]
    if not found:
        names = ", ".join(cell.name for cell in cells[:3])
        raise UsageError(f"--only {only!r} matches no cell", hint=f"cells are called {names}, …")
    return found
