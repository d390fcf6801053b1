"""A trained student, as `train` and `finetune` print it."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from transferset.console import print_json, print_table

if TYPE_CHECKING:
    from distill.stages.result import StudentReport


def print_student(report: "StudentReport", as_json: bool) -> None:
    """How good it is, and what made it."""
    if as_json:
        print_json(asdict(report))
        return
    score = "not scored: there is no val split" if report.score is None else f"{100 * report.score:.1f} %"
    if report.classifier == "none":
        score = "no classifier yet: distill finetune --from gives it one"
    if report.metric != "top1":
        score += f" {report.metric.replace('_', ' ')}"
    if report.interval is not None:
        score += f" ({100 * report.interval[0]:.1f}–{100 * report.interval[1]:.1f}), {report.scored_on}"
    rows = [["head", report.head]] if report.head is not None else []
    rows += [["score", score], ["chosen", f"step {report.chosen_step} of {report.steps}"]]
    rows += [["images seen", f"{report.images_seen:,}"], ["unusable samples", str(report.dropped)]]
    rows += [["skipped steps", str(report.skipped_steps)], ["student", report.out]]
    print_table("student", ["", ""], rows)
