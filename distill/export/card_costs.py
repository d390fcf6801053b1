"""What a model card says of costs: those of its runs, and of what their teachers took before."""

from collections.abc import Iterator, Sequence
from typing import Any

from distill.export.lineage import Ancestor, Taught, part, teachers
from distill.export.markdown import plain

_UNKNOWN = "not recorded"
_Row = tuple[str, str, dict[str, Any]]


def costs(runs: Sequence[Ancestor]) -> str:
    """The section: a row for each stage of each command, in the order in which they ran."""
    rows = ["| command | stage | images | seconds | FLOPs |", "|---|---|---:|---:|---:|"]
    rows += [_row(*one) for one in _stages(runs)]
    notes = []
    if any(teachers(run) for run in runs):
        notes.append(
            "`adapt` and `label` are paid for once, however many students learn from teacher or store."
        )
    for run in runs:
        together = part(run.config, "together")
        if together.get("number"):
            notes.append(
                f"This student is one of {together.get('students')} that one `distill {run.command}` taught;"
                " what reading and the teacher cost is listed with the first of them."
            )
    return "\n\n".join(["## Cost", "\n".join(rows), *([" ".join(notes)] if notes else [])])


def _stages(runs: Sequence[Ancestor]) -> Iterator[_Row]:
    adapted: set[str] = set()
    for run in runs:
        taught = teachers(run)
        for one in taught:
            if one.sha256 not in adapted:
                yield from _adapted(one)
            adapted.add(one.sha256)
        for one in taught:
            if one.facts.get("stored"):
                yield f"distill label{_named(one)}", "teacher", part(one.facts, "label_costs")
        for stage, spent in part(run.report, "costs").items():
            yield f"distill {run.command}", stage, spent


def _adapted(teacher: Taught) -> Iterator[_Row]:
    command = f"distill adapt{_named(teacher)}"
    found = part(teacher.facts, "adapt_costs")
    for stage, spent in found.items():
        yield command, stage, spent
    if not found:
        yield command, "all", {}


def _named(teacher: Taught) -> str:
    return f" {plain(teacher.name)}" if teacher.name else ""


def _row(command: str, stage: str, spent: dict[str, Any]) -> str:
    images, seconds, flops = (spent.get(name) for name in ("images", "seconds", "flops"))
    cells = [
        f"`{command}`",
        plain(stage),
        _UNKNOWN if images is None else f"{images:,}",
        _UNKNOWN if seconds is None else f"{seconds:,.1f}",
        _UNKNOWN if flops is None else f"{flops:.2g}",
    ]
    return f"| {' | '.join(cells)} |"
