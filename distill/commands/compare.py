"""The command `distill compare`."""

from pathlib import Path
from typing import Annotated

import typer

from distill import options
from transferset.console import print_json, say

_BAD_DATA = 3

CompareRecipe = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The recipe (YAML).")]
CompareOut = Annotated[
    Path | None,
    typer.Option("--out", file_okay=False, help="Output directory; default: the recipe without .yaml."),
]
Only = Annotated[
    str | None, typer.Option(help="Run only cells whose name matches this pattern, such as 'task-*'.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List the cells and their estimated cost.")]
ReportOnly = Annotated[bool, typer.Option("--report-only", help="Train nothing; report on finished cells.")]


def compare(
    recipe: CompareRecipe,
    out: CompareOut = None,
    only: Only = None,
    dry_run: DryRun = False,
    report_only: ReportOnly = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
    workers: options.Workers = None,
    cache_mb: options.CacheMb = 1024,
    as_json: options.AsJson = False,
) -> None:
    """Compare ways to train a small model on your data.

    Covers the methods, transfer sets, label budgets and seeds in a recipe. Run it again to resume.
    """
    from distill.comparison.compare import compare as run
    from distill.comparison.compare_options import CompareOptions
    from distill.comparison.estimate import estimate
    from distill.comparison.tables import print_comparison, print_estimates
    from distill.loop.execution import Execution

    given = CompareOptions(recipe, out, only, report_only, Execution(device, threads, workers, cache_mb))
    if dry_run:
        found = estimate(given)
        print_json({"cells": [one.to_dict() for one in found]}) if as_json else print_estimates(found)
        return
    comparison = run(given)
    print_json(comparison.to_dict()) if as_json else print_comparison(comparison)
    if comparison.failed:
        say(f"error: {len(comparison.failed)} cells failed; the first: {comparison.failed[0].cell.name}")
        say("hint: fix the reported problem and run the same command again: finished cells are kept")
        raise typer.Exit(_BAD_DATA)
