"""The command `distill label`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill import options
from transferset.console import print_json, print_table
from transferset.errors import UsageError
from transferset.label_lists import with_image_root

if TYPE_CHECKING:
    from distill.stages.label import LabelReport

LabellingTeacher = Annotated[
    list[Path], typer.Option("--teacher", help="The directory that distill adapt wrote; one.")
]
Store = Annotated[
    Path, typer.Option("--out", file_okay=False, help="The store; running the same command again resumes.")
]
StoredViews = Annotated[int, typer.Option(min=1, help="Views of every image that the teacher looks at.")]
StoredData = Annotated[
    Path | None,
    typer.Option(
        "--data",
        callback=options.there,
        help="Labelled images that train is to mix in, in the forms of adapt --data.",
    ),
]
DecodeSize = Annotated[
    int | None,
    typer.Option(min=1, help="Short side that JPEGs may be reduced to; default: the teacher's input."),
]
LabelTable = Annotated[
    Path | None,
    typer.Option(dir_okay=False, help="Write one row an image: probabilities, entropy (.parquet)."),
]
RejectFrom = Annotated[
    list[str] | None,
    typer.Option(help="Random images (a pool): with them in --table refine can tell what is off task."),
]
RejectImages = Annotated[int, typer.Option(min=1, help="How many of those images are drawn.")]


def label(
    shards: options.Shards,
    teacher: LabellingTeacher,
    out: Store,
    more_shards: options.MoreShards = None,
    views: StoredViews = 8,
    augment: options.Augment = "standard",
    data: StoredData = None,
    image_root: options.ImageRoot = None,
    drop_near_copies: options.DropNearCopies = False,
    labelled_share: options.LabelledShare = 0.1,
    decode_size: DecodeSize = None,
    top_k: options.TopK = None,
    features: options.StoredFeatures = False,
    teacher_flip: options.TeacherFlip = False,
    table: LabelTable = None,
    reject_from: RejectFrom = None,
    reject_images: RejectImages = 500,
    seed: options.Seed = 0,
    batch_size: options.ModelBatchSize = 64,
    runtime: options.Runtime = "auto",
    precision: options.Precision = "auto",
    device: options.Device = "auto",
    threads: options.Threads = None,
    workers: options.Workers = None,
    as_json: options.AsJson = False,
) -> None:
    """Store what a teacher says, for train --labels-from.

    With --table also one row an image, for curate refine. Run it again to resume.
    """
    from distill.loop.execution import Execution
    from distill.stages.label import LabelOptions
    from distill.stages.label import label as run

    if len(teacher) > 1:
        raise UsageError(
            f"{len(teacher)} --teacher: a store holds what one teacher says",
            hint="label with each into a store of its own; train --labels-from A --labels-from B takes them",
        )
    given = LabelOptions(
        shards=(*shards, *(more_shards or ())),  # a glob that the shell has expanded
        teacher=teacher[0],
        out=out,
        views=views,
        augment=augment,
        data=with_image_root(data, image_root),
        drop_near_copies=drop_near_copies,
        labelled_share=labelled_share,
        decode_size=decode_size,
        top_k=top_k,
        features=features,
        teacher_flip=teacher_flip,
        table=table,
        reject_from=tuple(reject_from or ()),
        reject_images=reject_images,
        seed=seed,
        batch_size=batch_size,
        runtime=runtime,
        precision=precision,
        execution=Execution(device, threads, workers),
    )
    report = run(given)
    print_json(asdict(report)) if as_json else _print_store(report)


def _print_store(report: "LabelReport") -> None:
    """What a store of teacher outputs holds."""
    rows = [
        ["images", f"{report.images:,} in {report.shards:,} shards, {report.unreadable} unreadable"],
        ["labelled by this command", f"{report.labelled_now:,}"],
        ["views of each", f"{report.views}{', with their mirror images' if report.flip else ''}"],
        ["kept", f"{report.kept}, of {report.classes} classes"],
        ["on disk", f"{report.bytes / 1e6:,.1f} MB"],
        ["store", report.out],
    ]
    if report.features:
        rows.insert(4, ["features", f"{report.features:,} numbers of every view"])
    if report.table is not None:
        rows.append(["table", report.table])
    print_table("teacher outputs", ["", ""], rows)
