"""The command `distill export`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill import options
from distill.commands.cells import percent
from transferset.console import print_json, print_table
from transferset.label_lists import with_image_root

if TYPE_CHECKING:
    from distill.stages.export_options import ExportReport

Run = Annotated[Path, typer.Option("--model", help="A finished run of distill train or finetune.")]
ExportOut = Annotated[
    Path, typer.Option("--out", help="A new directory; nothing is left in it if the export fails.")
]
CompareOn = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Real images to compare on: labelled, in any form that adapt --data takes, or a folder"
        " without labels.",
    ),
]
CompareSplit = Annotated[
    str | None,
    typer.Option(help="Split of --data: train, val, test or all; default: test, else val, else all."),
]
Onnx = Annotated[bool, typer.Option("--onnx", help="Write an ONNX graph (any batch size).")]
Int8 = Annotated[bool, typer.Option("--int8", help="Also write an 8-bit ONNX graph; needs labels in --data.")]
Preprocessing = Annotated[
    str,
    typer.Option(
        help="Preprocessing inside the graphs: none; normalise (input: resized, cropped uint8 images); resize"
        " (input: one decoded uint8 image of any size, which is resized and cropped too)."
    ),
]
Tolerance = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Largest allowed difference of a logit from the run's. Default: 0.001, or 0.1 with"
        " --preprocessing resize.",
    ),
]
MaxDrop = Annotated[
    float, typer.Option(min=0, max=1, help="Largest drop in score allowed for --int8; 0.02: 2 points.")
]
CalibrationImages = Annotated[
    int, typer.Option(min=1, help="Number of training images of --data used to calibrate int8.")
]


def export(
    model: Run,
    out: ExportOut,
    data: CompareOn = None,
    image_root: options.ImageRoot = None,
    split: CompareSplit = None,
    onnx: Onnx = False,
    int8: Int8 = False,
    preprocessing: Preprocessing = "none",
    tolerance: Tolerance = None,
    max_drop: MaxDrop = 0.02,
    calibration_images: CalibrationImages = 200,
    batch_size: options.ModelBatchSize = 64,
    max_pixels: options.MaxPixels = options.MAX_PIXELS,
    seed: options.Seed = 0,
    threads: options.Threads = None,
    workers: options.Workers = None,
    as_json: options.AsJson = False,
) -> None:
    """Export a finished student, with a model card.

    Writes safetensors, ONNX and int8 files, each compared with the run on real images.
    """
    from distill.loop.execution import Execution
    from distill.stages.export import export as run
    from distill.stages.export_options import ExportOptions

    given = ExportOptions(
        model=model,
        out=out,
        data=with_image_root(data, image_root),
        split=split,
        onnx=onnx,
        int8=int8,
        preprocessing=preprocessing,
        tolerance=tolerance,
        max_drop=max_drop,
        calibration_images=calibration_images,
        batch_size=batch_size,
        seed=seed,
        max_pixels=max_pixels,
        execution=Execution("cpu", threads, workers),
    )
    report = run(given)
    print_json(asdict(report)) if as_json else _print_export(report)


def _print_export(report: "ExportReport") -> None:
    """Every model file: its size, its speed, and how it compares with the run."""
    from distill.export.parity import changed_answers
    from distill.task import SCORE_NAMES

    rows = []
    for name, facts in report.files.items():
        speed, parity = facts["speed"], facts["parity"]
        row = [name, f"{facts['bytes'] / 1e6:.2f}", f"{speed['latency_ms']:.2f}"]
        row += [f"{speed['images_per_second']:,.0f}"]
        if parity is None:
            row += ["–", "–", "–"]
        else:
            row += [f"{parity['max_difference']:.2g}", changed_answers(parity)]
            row += [percent(parity["score"])]
        rows.append(row)
    columns = ["file", "MB", "ms per image", "images/s", "logits differ by", "answers changed"]
    columns.append(SCORE_NAMES[report.metric])
    on = "" if report.compared_on is None else f", compared on {report.compared_on['split']} images"
    print_table(f"export {report.out}, {report.machine['threads']} threads{on}", columns, rows)
