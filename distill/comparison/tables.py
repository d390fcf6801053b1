"""A comparison on the terminal."""

import math

from distill.comparison.answers import Compared
from distill.comparison.comparison import Comparison, mean_cost
from distill.comparison.estimate import Estimate
from distill.comparison.plots import metric_name
from distill.comparison.recipe import budget
from distill.comparison.runner import DONE
from transferset.console import print_table, say


def print_comparison(comparison: Comparison) -> None:
    """Rows with their costs, then the differences, then what is missing."""
    rows = []
    for row in comparison.rows:
        cost = mean_cost(row)
        rows.append(
            [
                row.name,
                budget(row.labels),
                row.spread.percent,
                str(row.spread.runs),
                f"{cost.flops:.1e}",
                f"{cost.images:,}",
                f"{cost.seconds:,.0f}",
            ]
        )
    metric = metric_name(comparison.recipe.metric)
    print_table(
        f"Test {metric}, mean ± standard deviation over seeds; cost of one cell, shared stages included",
        ["", "labels", "%", "seeds", "FLOPs", "images", "seconds"],
        rows,
    )
    if comparison.differences:
        print_table(
            "Differences in points, paired by test image and seed, with 95 % interval",
            ["", "against", "labels", "difference", "verdict", "seeds"],
            [compared_line(one) for one in comparison.differences],
        )
    missing = [one for one in comparison.outcomes if one.status != DONE]
    if missing:
        print_table(
            "not in the table",
            ["cell", "", "why"],
            [[one.cell.name, one.status, one.reason or ""] for one in missing],
        )


def compared_line(one: Compared) -> list[str]:
    """A difference in points, what it is worth, and over how many seeds."""
    gap = one.difference
    interval = f"{100 * gap.mean:+.1f} [{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]"
    seeds = str(len(one.seeds))
    if one.alone:
        seeds += f" (not in both: {', '.join(map(str, one.alone))})"
    return [one.first.name, one.second.name, budget(one.first.labels), interval, gap.told, seeds]


def print_estimates(estimates: list[Estimate]) -> None:
    """The cells with their cost, and the sum of those that are left."""
    rows = []
    for one in estimates:
        flops = "" if one.flops is None else f"{one.flops:.1e}"
        minutes = "" if one.seconds is None else f"{one.seconds / 60:,.1f}"
        seen = [f"{one.student_images:,}", f"{one.teacher_images:,}"]
        rows.append([one.cell.name, one.status, *seen, flops, minutes, one.reason or ""])
    columns = ["cell", "", "images to train on", "teacher images", "FLOPs", "minutes", ""]
    print_table("what the cells cost", columns, rows)
    left = [one for one in estimates if one.status != DONE]
    seconds = sum(one.seconds or 0.0 for one in left)
    most = f"{seconds / 3600:,.1f} hours" if seconds >= 3600 else f"{math.ceil(seconds / 60)} min"
    say(
        f"{len(left)} of {len(estimates)} cells are left, at most about {most}: what cells share"
        " is counted in each, the teacher as in eager mode, reading and scoring not at all"
    )
