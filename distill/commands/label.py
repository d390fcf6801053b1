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
    list[Path], typer.Option("--teacher", help="Teacher directory written by distill adapt; exactly one.")
]
Store = Annotated[
    Path,
    typer.Option("--out", file_okay=False, help="Store directory; running the same command again resumes."),
]
StoredViews = Annotated[int, typer.Option(min=1, help="Views per image that the teacher labels.")]
StoredData = Annotated[
    Path | None,
    typer.Option(
        "--data",
        callback=options.there,
        help="Labelled images that train will mix in, in any form that adapt --data takes.",
    ),
]
DecodeSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Shorter side to which JPEGs may be reduced when decoding; default: the teacher's input size.",
    ),
]
LabelTable = Annotated[
    Path | None,
    typer.Option(dir_okay=False, help="Write one row per image with probabilities and entropy (.parquet)."),
]
RejectFrom = Annotated[
    list[str] | None,
    typer.Option(
        help="Random images (a pool) to include in --table, so that refine can tell what is off task."
    ),
]
RejectImages = Annotated[int, typer.Option(min=1, help="Number of images to sample from --reject-from.")]


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
    """Store a teacher's outputs, for train --labels-from.

    With --table, also writes one row per image, for curate refine. Run it again to resume.
    """
    from distill.loop.execution import Execution
    from distill.stages.label import LabelOptions
    from distill.stages.label import label as run

    if len(teacher) > 1:
        raise UsageError(
            f"{len(teacher)} --teacher: a store holds the outputs of one teacher",
            hint="label with each teacher into its own store, then use train --labels-from A --labels-from B",
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
        ["views per image", f"{report.views}{', with their mirror images' if report.flip else ''}"],
        ["kept", f"{report.kept}, of {report.classes} classes"],
        ["on disk", f"{report.bytes / 1e6:,.1f} MB"],
        ["store", report.out],
    ]
    if report.features:
        rows.insert(4, ["features", f"{report.features:,} values per view"])
    if report.table is not None:
        rows.append(["table", report.table])
    print_table("teacher outputs", ["", ""], rows)
