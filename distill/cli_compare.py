"""`distill compare`: parses, calls the library, prints."""

import typer

from distill import options
from transferset.console import print_json, say

_BAD_DATA = 3


def compare(
    recipe: options.CompareRecipe,
    out: options.CompareOut = None,
    only: options.Only = None,
    dry_run: options.DryRun = False,
    report_only: options.ReportOnly = False,
    device: options.Device = "auto",
    threads: options.Threads = None,
    workers: options.Workers = None,
    cache_mb: options.CacheMb = 1024,
    as_json: options.AsJson = False,
) -> None:
    """Compare ways to a small model on your data: methods, transfer sets, label budgets, seeds."""
    from distill.comparison.compare import CompareOptions
    from distill.comparison.compare import compare as run
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
        say("hint: mend what is said there, and run the same command again: finished cells are kept")
        raise typer.Exit(_BAD_DATA)


COMMANDS = (compare,)
