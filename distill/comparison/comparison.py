"""What a comparison has found, and its files."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distill.comparison.answers import Compared, Row
from distill.comparison.costs import Cost, total
from distill.comparison.curves import answers
from distill.comparison.recipe import Recipe
from distill.comparison.runner import DONE, FAILED_STATUS, Outcome
from transferset.writes import write_parquet

JSON, TABLE = "compare.json", "compare.parquet"


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


def mean_cost(row: Row) -> Cost:
    """The total of a cell of this row, mean over seeds."""
    totals = [total(one.work.costs) for one in row.outcomes.values() if one.work is not None]
    return Cost(
        "total",
        round(sum(one.images for one in totals) / len(totals)),
        sum(one.flops for one in totals) / len(totals),
        sum(one.seconds for one in totals) / len(totals),
    )


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
