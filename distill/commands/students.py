"""The command `distill students`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from distill import options
from transferset.console import print_json, print_table

if TYPE_CHECKING:
    from distill.stages.students import StudentsReport

MaxMs = Annotated[
    float | None, typer.Option(help="Maximum latency per image in milliseconds, measured on this machine.")
]
MaxMb = Annotated[float | None, typer.Option(help="Maximum size of the float32 weights, in MB.")]
Classes = Annotated[int, typer.Option(min=1, help="Number of classes of the classifier.")]
Match = Annotated[
    list[str] | None, typer.Option(help="Glob of timm names, instead of the shortlist. May be repeated.")
]


def students(
    max_ms: MaxMs = None,
    max_mb: MaxMb = None,
    image_size: options.ImageSize = None,
    classes: Classes = 10,
    match: Match = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """List timm models that are small and fast enough here.

    Shows parameters, FLOPs and latency; nothing is downloaded.
    """
    from distill.loop.execution import Execution
    from distill.stages.students import StudentsOptions
    from distill.stages.students import students as run

    given = StudentsOptions(
        max_ms=max_ms,
        max_mb=max_mb,
        image_size=image_size,
        classes=classes,
        match=tuple(match or ()),
        execution=Execution(device, threads),
    )
    report = run(given)
    print_json(asdict(report)) if as_json else _print_students(report)


def _print_students(report: "StudentsReport") -> None:
    """The models that are small and fast enough."""
    rows = [
        [
            f"timm:{one.name}",
            str(one.image_size),
            f"{one.parameters / 1e6:.2f}",
            f"{one.mb:.1f}",
            f"{one.flops / 1e6:,.0f}",
            f"{one.latency_ms:.1f}",
            "yes" if one.weights else "no",
        ]
        for one in report.students
    ]
    columns = ["student", "pixels", "M parameters", "MB", "MFLOPs", "ms per image", "hub weights"]
    left_out = f"left out: {report.too_large} too large, {report.too_slow} too slow"
    if report.unusable:
        name, reason = next(iter(report.unusable.items()))
        left_out += f", {len(report.unusable)} unusable (the first: {name}: {reason})"
    threads = report.machine["threads"]
    print_table(f"students, eager torch, {threads} threads; {left_out}", columns, rows)
