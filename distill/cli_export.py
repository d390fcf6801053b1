"""`distill export`, `predict` and `students`: parse, call one library function each, print."""

from dataclasses import asdict

from distill import options
from distill.tables import print_export, print_students
from transferset.console import print_json
from transferset.label_lists import with_image_root

MAX_PIXELS = 100_000_000  # of transferset.images, which is slow to import


def export(
    model: options.Run,
    out: options.ExportOut,
    data: options.CompareOn = None,
    image_root: options.ImageRoot = None,
    split: options.CompareSplit = None,
    onnx: options.Onnx = False,
    int8: options.Int8 = False,
    with_preprocessing: options.WithPreprocessing = False,
    tolerance: options.Tolerance = 1e-3,
    max_drop: options.MaxDrop = 0.02,
    calibration_images: options.CalibrationImages = 200,
    batch_size: options.ModelBatchSize = 64,
    max_pixels: options.MaxPixels = MAX_PIXELS,
    seed: options.Seed = 0,
    threads: options.Threads = None,
    workers: options.Workers = None,
    as_json: options.AsJson = False,
) -> None:
    """Write a finished student for others: safetensors, ONNX, int8, a model card; compared with the run."""
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
        with_preprocessing=with_preprocessing,
        tolerance=tolerance,
        max_drop=max_drop,
        calibration_images=calibration_images,
        batch_size=batch_size,
        seed=seed,
        max_pixels=max_pixels,
        execution=Execution("cpu", threads, workers),
    )
    report = run(given)
    print_json(asdict(report)) if as_json else print_export(report)


def predict(
    model: options.Model,
    images: options.Images,
    more_images: options.MoreImages = None,
    table: options.Table = None,
    reject_from: options.RejectFrom = None,
    reject_quantile: options.RejectQuantile = 0.95,
    reject_images: options.RejectImages = 1000,
    reject: options.Reject = True,
    runtime: options.Runtime = "auto",
    batch_size: options.ModelBatchSize = 64,
    max_pixels: options.MaxPixels = MAX_PIXELS,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    threads: options.Threads = None,
    workers: options.Workers = None,
    as_json: options.PredictionsAsJson = False,
) -> None:
    """Say what is on images: a class and its probability for each, or that it is none of the classes."""
    from distill.loop.execution import Execution
    from distill.predictions import shown_as
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
        batch_size=batch_size,
        max_pixels=max_pixels,
        seed=seed,
        execution=Execution(device, threads, workers),
    )
    shown = shown_as(as_json, table is not None)
    shown.summary(run(given, shown.add))


def students(
    max_ms: options.MaxMs = None,
    max_mb: options.MaxMb = None,
    image_size: options.ImageSize = None,
    classes: options.Classes = 10,
    match: options.Match = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    as_json: options.AsJson = False,
) -> None:
    """List timm models that are small and fast enough here: parameters, FLOPs, latency; no downloads."""
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
    print_json(asdict(report)) if as_json else print_students(report)


COMMANDS = (export, predict, students)
