"""The command `distill plan`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill import options
from transferset.console import print_json, print_table
from transferset.label_lists import with_image_root

if TYPE_CHECKING:
    from distill.stages.plan import PlanReport

Teacher = Annotated[Path, typer.Option(help="Teacher directory written by distill adapt.")]
PlannedEpochs = Annotated[float | None, typer.Option(help="Training length in epochs; default: 60.")]
StudentSpec = Annotated[
    str, typer.Option(help="Student: timm:NAME@none, timm:NAME, timm:NAME@FILE.safetensors or embedded.")
]
PlannedViews = Annotated[int, typer.Option(min=0, help="Views per image, as in train; 0: no repeats.")]
ProbeSeconds = Annotated[float, typer.Option(help="Seconds to measure each stage.")]


def plan(
    shards: options.Shards,
    teacher: Teacher,
    student: StudentSpec,
    more_shards: options.MoreShards = None,
    data: options.MixedIn = None,
    image_root: options.ImageRoot = None,
    labelled_share: options.LabelledShare = 0.1,
    image_size: options.ImageSize = None,
    steps: options.Steps = None,
    epochs: PlannedEpochs = None,
    batch_size: options.BatchSize = 64,
    views: PlannedViews = 8,
    augment: options.Augment = "standard",
    top_k: options.TopK = None,
    features: options.StoredFeatures = False,
    teacher_flip: options.TeacherFlip = False,
    seconds: ProbeSeconds = 2.0,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    runtime: options.Runtime = "auto",
    threads: options.Threads = None,
    cache_mb: options.CacheMb = 1024,
    student_precision: options.StudentPrecision = "auto",
    compile_student: options.CompileStudent = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Predict training time, and whether a store pays off.

    Every stage is measured on this machine, with the images themselves.
    """
    from distill.loop.execution import Execution
    from distill.loop.plan import Plan
    from distill.stages.plan import PlanOptions
    from distill.stages.plan import plan as run

    given = PlanOptions(
        shards=(*shards, *(more_shards or ())),
        teacher=teacher,
        student=student,
        data=with_image_root(data, image_root),
        labelled_share=labelled_share,
        image_size=image_size,
        plan=Plan(steps, epochs, batch_size),
        views=views,
        augment=augment,
        top_k=top_k,
        features=features,
        teacher_flip=teacher_flip,
        seed=seed,
        runtime=runtime,
        seconds=seconds,
        execution=Execution(device, threads, None, cache_mb, student_precision, compile_student),
    )
    report = run(given)
    print_json(asdict(report)) if as_json else _print_plan(report)


def _print_plan(report: "PlanReport") -> None:
    """Rates, then the time with and without a store, and what follows from that."""
    stages = [[name.replace("_", " "), f"{rate:,.0f}"] for name, rate in report.rates.items()]
    stages += [[f"a run, {name}", f"{rate:,.0f}"] for name, rate in report.joint_rates.items()]
    print_table("each stage on its own on this machine, and together", ["stage", "images/s"], stages)
    rows = []
    for runs in (1, 2, 3):
        online, stored = report.seconds_for(runs)
        rows.append([str(runs), _minutes(online), _minutes(stored), "store" if stored < online else "online"])
    title = (
        f"{report.images:,} images, {report.steps:,} steps, {report.epochs:,.1f} epochs; "
        f"a store of {report.store_views} views: {report.store_bytes / 1e6:,.1f} MB,"
        f" {_minutes(report.label_seconds)}"
    )
    print_table(title, ["runs (seeds, settings)", "online", "label, then train", "faster"], rows)
    print_table("storing", [""], [[_verdict(report.pays_from)]])


def _verdict(pays_from: int | None) -> str:
    if pays_from is None:
        return "does not pay off: the teacher costs nothing here"
    if pays_from == 1:
        return "pays off with the first run"
    if pays_from == 2:
        return (
            "does not pay off for one run, but does from the second on (students of one run share a teacher)"
        )
    return f"does not pay off for fewer than {pays_from} runs (students of one run share a teacher)"


def _minutes(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} min"
