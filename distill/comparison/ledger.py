"""The cost ledger of a comparison: every stage of every row."""

from collections.abc import Sequence
from dataclasses import replace

from distill.comparison.answers import Row
from distill.comparison.comparison import Comparison
from distill.comparison.costs import Cost
from distill.comparison.recipe import TEACHER, budget

_OWN = ("student", "features")
"""Parts of a command that its line stands for."""


def stages_of(row: Row) -> list[Cost]:
    """The stages of a row's cells, mean over seeds: a line for each command with what its student (or its
    frozen model) saw and all of its seconds, and one for whatever else a model computed within it (teacher,
    evaluation, retention, …). Runs that were only tried are added up, and so is a command that is shared,
    but in the teacher's own row."""
    works = [one.work for one in row.outcomes.values() if one.work is not None]
    sums: dict[str, Cost] = {}
    for cost in (cost for work in works for cost in work.costs):
        command, _, part = cost.stage.partition(": ")
        whole = cost.shared and row.method != TEACHER
        apart = cost.flops and part not in ("", *_OWN) and not whole
        stage = "tuning" if cost.tuning else cost.stage if apart else command
        before = sums.get(stage, replace(cost, stage=stage, images=0, flops=0.0, seconds=0.0))
        sums[stage] = replace(
            before,
            images=before.images + (cost.images if cost.flops else 0),
            flops=before.flops + cost.flops,
            seconds=before.seconds + cost.seconds,
        )
    count = len(works)
    return [
        replace(one, images=round(one.images / count), flops=one.flops / count, seconds=one.seconds / count)
        for one in sums.values()
    ]


def ledger_lines(comparison: Comparison) -> list[list[str]]:
    """As text: row, labels (of a row's first stage), stage, images, FLOPs, seconds, note; first what is
    shared beyond the comparison."""
    lines = [
        ["shared by everything", "", name, *_numbers(cost["images"], cost["flops"], cost["seconds"]), ""]
        for name, cost in comparison.recipe.costs.items()
    ]
    for row in comparison.rows:
        for number, cost in enumerate(stages_of(row)):
            note = "shared" if cost.shared else "not in the total" if cost.tuning else ""
            numbers = _numbers(cost.images, cost.flops, cost.seconds)
            named = ["", ""] if number else [row.name, budget(row.labels)]
            lines.append([*named, cost.stage, *numbers, note])
    return lines


def _numbers(images: float, flops: float, seconds: float) -> Sequence[str]:
    return (
        f"{images:,.0f}" if images else "",
        f"{flops:.1e}" if flops else "",
        f"{seconds:,.1f}" if seconds else "",
    )
