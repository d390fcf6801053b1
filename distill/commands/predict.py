"""The command `distill predict`, and the forms in which it prints what it finds."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from distill import options
from transferset.console import print_table, say, visible

if TYPE_CHECKING:
    from distill.predictions import Prediction
    from distill.stages.predict import PredictReport

Model = Annotated[
    Path, typer.Option(help="A teacher, a run of train or finetune, an export, or an ONNX file in an export.")
]
Images = Annotated[
    list[str],
    typer.Option(help="A folder, a tar, an image, a glob, or - for paths on stdin. May be repeated."),
]
MoreImages = Annotated[list[str] | None, typer.Argument(hidden=True, metavar="IMAGES")]
Table = Annotated[Path | None, typer.Option(help="Write one row per image (.parquet or .csv).")]
PredictionsAsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object: every prediction, then the summary.")
]
RejectFrom = Annotated[
    list[str] | None,
    typer.Option(help="Random images (a pool) to fit the rejection threshold on; an export stores it."),
]
RejectQuantile = Annotated[
    float, typer.Option(min=0, max=1, help="Share of the images of --reject-from to reject.")
]
RejectImages = Annotated[int, typer.Option(min=1, help="Number of images to sample from --reject-from.")]
Reject = Annotated[bool, typer.Option(help="Use the rejection threshold stored in the export.")]


def predict(
    model: Model,
    images: Images,
    more_images: MoreImages = None,
    table: Table = None,
    reject_from: RejectFrom = None,
    reject_quantile: RejectQuantile = 0.95,
    reject_images: RejectImages = 1000,
    reject: Reject = True,
    runtime: options.Runtime = "auto",
    precision: options.Precision = "auto",
    batch_size: options.ModelBatchSize = 64,
    max_pixels: options.MaxPixels = options.MAX_PIXELS,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    threads: options.Threads = None,
    workers: options.Workers = None,
    as_json: PredictionsAsJson = False,
) -> None:
    """Classify images, or reject them as none of the classes.

    Prints image, class and probability, one line per image; with --table, only a summary.
    """
    from distill.loop.execution import Execution
    from distill.stages.predict import PredictOptions
    from distill.stages.predict import predict as run

    given = PredictOptions(
        model=model,
        images=(*images, *(more_images or ())),
        table=table,
        reject_from=tuple(reject_from or ()),
        reject_quantile=reject_quantile,
        reject_images=reject_images,
        reject=reject,
        runtime=runtime,
        precision=precision,
        batch_size=batch_size,
        max_pixels=max_pixels,
        seed=seed,
        execution=Execution(device, threads, workers),
    )
    shown = _shown_as(as_json, table is not None)
    shown.summary(run(given, shown.add))


class _Shown(Protocol):
    """What stdout gets."""

    def add(self, prediction: "Prediction") -> None:
        """One more image."""

    def summary(self, report: "PredictReport") -> None:
        """The end."""


class _Lines:
    """`image, tab, class (or rejected, or error: …), tab, probability`; the summary on stderr."""

    def add(self, prediction: "Prediction") -> None:
        answer = "rejected" if prediction.rejected else prediction.predicted
        if prediction.error is not None:
            answer = f"error: {prediction.error}"
        probability = "" if prediction.probability is None else f"{prediction.probability:.3f}"
        cells = (prediction.image, answer, probability)
        print(
            "\t".join(visible(cell).replace("\t", "\\t").replace("\n", "\\n") for cell in cells), flush=True
        )

    def summary(self, report: "PredictReport") -> None:
        rejected = "" if report.rejected is None else f", {report.rejected} rejected"
        say(f"{report.predicted} images{rejected}, {report.failed} unreadable")


class _Table:
    """Nothing but the summary."""

    def add(self, prediction: "Prediction") -> None:
        pass

    def summary(self, report: "PredictReport") -> None:
        _print_predictions(report)


class _Json:
    """One object that is written as it grows."""

    def __init__(self) -> None:
        self.begun = False

    def add(self, prediction: "Prediction") -> None:
        text = json.dumps(prediction.to_dict(), sort_keys=True, allow_nan=False)
        print((",\n" if self.begun else '{"predictions": [\n') + text, end="")
        self.begun = True

    def summary(self, report: "PredictReport") -> None:
        start = "" if self.begun else '{"predictions": ['
        text = json.dumps(asdict(report), sort_keys=True, allow_nan=False)
        print(f'{start}\n], "summary": {text}}}', flush=True)


def _shown_as(as_json: bool, table: bool) -> _Shown:
    """JSON, or lines, or, where a table is written, its summary only."""
    return _Json() if as_json else _Table() if table else _Lines()


def _print_predictions(report: "PredictReport") -> None:
    """How many images are of which class."""
    rows = [[name, f"{count:,}"] for name, count in report.classes.items() if count]
    if report.rejected is not None:
        rows.append(["rejected: none of the classes", f"{report.rejected:,}"])
    rows += [["unreadable", f"{report.failed:,}"]]
    rate = (report.predicted + report.failed) / max(report.seconds, 1e-9)
    print_table(f"{report.predicted:,} images, {rate:,.0f} per second: {report.table}", ["", "images"], rows)
