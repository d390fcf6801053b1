"""The command `distill replay`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from distill import options
from transferset.console import print_json, print_table

ReplayPath = Annotated[
    Path,
    typer.Argument(exists=True, help="A run, or one of the files in its replay folder."),
]


def replay(path: ReplayPath, device: options.Device = "cpu", as_json: options.AsJson = False) -> None:
    """Replay a skipped training step, layer by layer.

    Shows where its numbers stop being finite.
    """
    from distill.stages.replay import replay as run

    report = run(path, device)
    if as_json:
        print_json(asdict(report))
        return
    rows = [["file", report.path], ["images", str(report.images)]]
    rows += [["then", ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in report.then.items())]]
    rows += [["targets", f"not finite: {report.bad_targets}" if report.bad_targets else "finite"]]
    for now in report.now:
        shown = ["not finite" if value is None else f"{value:.6g}" for value in (now.loss, now.gradient_norm)]
        rows += [[f"now, {now.mode}", f"loss {shown[0]}, gradient norm {shown[1]}"]]
        rows += [["  first layer", now.layer or "all outputs are finite"]]
        rows += [["  first gradient", now.gradient_layer or "all gradients of outputs are finite"]]
        rows += [["  parameters", ", ".join(now.parameters[:8]) or "all gradients are finite"]]
        if now.rows:
            rows += [["  images", ", ".join(map(str, now.rows[:16]))]]
    print_table(f"step {report.step}", ["", ""], rows)
