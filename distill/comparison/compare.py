"""`distill compare`: the paper's table on anyone's data, from one recipe."""

import fnmatch
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from distill.comparison.answers import Compared, Row, differences, rows_of
from distill.comparison.cells import Cell, cells_of, refuse_other_recipe
from distill.comparison.costs import Cost, total
from distill.comparison.curves import answers
from distill.comparison.labels import tell_short
from distill.comparison.recipe import Recipe
from distill.comparison.recipe_file import load_recipe
from distill.comparison.runner import DONE, FAILED_STATUS, Outcome, Runner, outcome_of
from distill.comparison.shared import Shared
from distill.loop.execution import Execution
from transferset.console import each_message_once
from transferset.errors import UsageError
from transferset.writes import write_json, write_parquet

JSON, TABLE = "compare.json", "compare.parquet"


@dataclass(frozen=True)
class CompareOptions:
    """What `distill compare` is given: a recipe, and the directory `out` that everything is written to (None:
    the recipe's path without its suffix). `only`: cells whose name matches this pattern (`*`, `?`).
    `report_only`: nothing is trained."""

    recipe: Path
    out: Path | None = None
    only: str | None = None
    report_only: bool = False
    execution: Execution = field(default_factory=Execution)

    @property
    def directory(self) -> Path:
        """Where everything is written."""
        if self.out is None and not self.recipe.suffix:
            raise UsageError("--out is missing", hint="only a recipe that ends in .yaml names its directory")
        return self.out or self.recipe.with_suffix("")


@dataclass(frozen=True, eq=False)
class Comparison:
    """The result: what has become of every cell, the `rows` of the table, and the paired differences."""

    out: Path
    recipe: Recipe
    outcomes: list[Outcome]
    rows: list[Row]
    differences: list[Compared]

    @property
    def failed(self) -> list[Outcome]:
        """The cells that could not be finished."""
        return [one for one in self.outcomes if one.status == FAILED_STATUS]

    def to_dict(self) -> dict[str, Any]:
        """As `compare.json` holds it."""
        return {
            "metric": self.recipe.metric,
            "cells": [_cell_dict(one) for one in self.outcomes],
            "rows": [_row_dict(row) for row in self.rows],
            "differences": [_compared_dict(one) for one in self.differences],
            "answers": [asdict(one) for one in answers(self.rows, self.recipe)],
            "shared_costs": self.recipe.costs,
        }


def compare(options: CompareOptions) -> Comparison:
    """Run the cells of a recipe that are not finished, then write `compare.json`, `compare.parquet` and
    `report.html`.

    Running it again resumes; several processes may run it at once. A cell that fails is recorded, and the
    others go on. Raises UsageError for a recipe that does not fit, or a directory with cells of another one;
    DataError for a task that cannot be used; DiskError, OpenFilesError and InterruptedRun wherever they
    occur.
    """
    from distill.comparison.report import write_report

    recipe = load_recipe(options.recipe)
    cells = cells_of(recipe)
    out = options.directory
    for cell in cells:
        refuse_other_recipe(out / "cells" / cell.name, cell, recipe)
    if options.report_only:
        if not out.is_dir():
            raise UsageError(
                f"{out} does not exist: there is nothing to report", hint="leave --report-only out"
            )
        outcomes = [outcome_of(out, cell) for cell in cells]
    else:
        shared = Shared(recipe, out, options.execution)
        tell_short(shared.task, recipe.labels)
        runner = Runner(shared, chosen(cells, options.only))
        with each_message_once():
            runner.refuse_others()
            runner.run()
        outcomes = [runner.outcomes.get(cell.name) or outcome_of(out, cell) for cell in cells]
    rows = rows_of(outcomes, recipe.metric)
    comparison = Comparison(out, recipe, outcomes, rows, differences(rows, recipe))
    write_json(out / JSON, comparison.to_dict())
    write_table(out / TABLE, comparison)
    write_report(comparison)
    return comparison


def chosen(cells: list[Cell], only: str | None) -> list[Cell]:
    """The cells that match; UsageError where none does."""
    found = [cell for cell in cells if only is None or fnmatch.fnmatchcase(cell.name, only)]
    if not found:
        names = ", ".join(cell.name for cell in cells[:3])
        raise UsageError(f"--only {only!r} matches no cell", hint=f"cells are called {names}, …")
    return found


def _cell_dict(outcome: Outcome) -> dict[str, Any]:
    cell, work = outcome.cell, outcome.work
    method, transfer_set, teacher = cell.row
    found: dict[str, Any] = {
        "name": cell.name,
        "method": method,
        "transfer_set": transfer_set or None,
        "teacher": teacher or None,
        "labels": cell.labels,
        "seed": cell.seed,
        "status": outcome.status,
        "reason": outcome.reason,
    }
    if work is not None and outcome.status == DONE:
        found |= {
            "metrics": work.metrics,
            "transferred": work.transferred,
            "val": work.val,
            "set_images": work.set_images,
            "label_images": work.label_images,
            "chosen": work.chosen,
            "costs": [cost.to_dict() for cost in work.costs],
            "total": total(work.costs).to_dict(),
        }
    return found


def _row_dict(row: Row) -> dict[str, Any]:
    method, transfer_set, teacher, labels = row.key
    return {
        "name": row.name,
        "method": method,
        "transfer_set": transfer_set or None,
        "teacher": teacher or None,
        "labels": labels,
        "scores": {str(seed): score for seed, score in row.scores.items()},
        "mean": row.spread.mean,
        "std": row.spread.std,
        "set_images": row.set_images,
        "cost": mean_cost(row).to_dict(),
    }


def mean_cost(row: Row) -> Cost:
    """The total of a cell of this row, mean over seeds."""
    totals = [total(one.work.costs) for one in row.outcomes.values() if one.work is not None]
    return Cost(
        "total",
        round(sum(one.images for one in totals) / len(totals)),
        sum(one.flops for one in totals) / len(totals),
        sum(one.seconds for one in totals) / len(totals),
    )


def _compared_dict(one: Compared) -> dict[str, Any]:
    return {
        "first": one.first.name,
        "second": one.second.name,
        "labels": one.first.labels,
        "difference": one.difference.mean,
        "interval": [one.difference.low, one.difference.high],
        "verdict": one.difference.verdict,
        "seeds": len(one.seeds),
        "unshared_seeds": list(one.alone),
    }


def write_table(path: Path, comparison: Comparison) -> None:
    """One row a cell as Parquet: what it is, its status, metrics and total cost."""
    import pyarrow as pa

    rows = []
    for cell in comparison.to_dict()["cells"]:
        metrics, spent = cell.get("metrics", {}), cell.get("total", {})
        named = ("name", "method", "transfer_set", "teacher", "labels", "seed", "status", "reason")
        row = {name: cell[name] for name in named}
        row |= {name: cell.get(name) for name in ("val", "set_images", "label_images")}
        row |= {name: metrics.get(name) for name in ("top1", "balanced_accuracy", "ece", "nll")}
        row |= {name: spent.get(name) for name in ("images", "flops", "seconds")}
        rows.append(row)
    text, number, whole = pa.string(), pa.float64(), pa.int64()
    kinds = dict.fromkeys(rows[0], number) | dict.fromkeys(named, text)
    kinds |= dict.fromkeys(("seed", "set_images", "label_images", "images"), whole)
    write_parquet(path, pa.Table.from_pylist(rows, pa.schema(list(kinds.items()))))
