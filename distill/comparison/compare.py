"""`distill compare`: the paper's table on anyone's data, from one recipe."""

from distill.comparison.answers import differences, rows_of
from distill.comparison.cells import cells_of, chosen, refuse_other_recipe
from distill.comparison.compare_options import CompareOptions
from distill.comparison.comparison import JSON, TABLE, Comparison, write_table
from distill.comparison.labels import tell_short
from distill.comparison.recipe_file import load_recipe
from distill.comparison.report import write_report
from distill.comparison.runner import Runner, outcome_of
from distill.comparison.shared import Shared
from transferset.console import each_message_once
from transferset.errors import UsageError
from transferset.writes import write_json


def compare(options: CompareOptions) -> Comparison:
    """Run the cells of a recipe that are not finished, then write `compare.json`, `compare.parquet` and
    `report.html`.

    Running it again resumes; several processes may run it at once. A cell that fails is recorded, and the
    others go on. Raises UsageError for a recipe that does not fit, or a directory with cells of another one;
    DataError for a task that cannot be used; DiskError, OpenFilesError and InterruptedRun wherever they
    occur.
    """
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
