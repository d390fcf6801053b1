"""The command `distill evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill import options
from distill.commands.cells import percent
from transferset.console import print_json, print_table
from transferset.label_lists import with_image_root

if TYPE_CHECKING:
    from distill.stages.evaluate import Evaluation
    from distill.stages.evaluate_several import Comparison
    from distill.statistics import Difference, OverRuns

Split = Annotated[str, typer.Option(help="Split of --data: train, val or test; all: every image.")]
Predictions = Annotated[
    Path | None,
    typer.Option(
        dir_okay=False, help="Write the label, prediction and probabilities of each image (.parquet)."
    ),
]
Models = Annotated[
    list[Path],
    typer.Option(
        "--model",
        help="A teacher, a run of train or finetune, an export, or an ONNX file in an export. May be"
        " repeated for runs (seeds) of one recipe, to report mean and spread.",
    ),
]
Against = Annotated[
    list[Path] | None,
    typer.Option(help="Runs of another recipe, for paired differences on the same images. May be repeated."),
]

BootstrapSeed = Annotated[
    int, typer.Option("--seed", min=0, max=2**31 - 1, help="Seed for the intervals of several models.")
]


def evaluate(
    model: Models,
    data: options.Labelled,
    image_root: options.ImageRoot = None,
    against: Against = None,
    split: Split = "test",
    predictions: Predictions = None,
    runtime: options.Runtime = "auto",
    precision: options.Precision = "auto",
    batch_size: options.ModelBatchSize = 64,
    max_pixels: options.MaxPixels = options.MAX_PIXELS,
    max_error_rate: options.MaxErrorRate = None,
    seed: BootstrapSeed = 0,
    device: options.Device = "auto",
    threads: options.Threads = None,
    workers: options.Workers = None,
    as_json: options.AsJson = False,
) -> None:
    """Evaluate a model on labelled images.

    Reports top-1, balanced accuracy, calibration and per-class scores; paired differences for several models.
    """
    from distill.loop.execution import Execution
    from distill.stages.evaluate import EvaluateOptions
    from distill.stages.evaluate import evaluate as run

    given = EvaluateOptions(
        model=model[0],
        data=with_image_root(data, image_root),
        split=split,
        predictions=predictions,
        runtime=runtime,
        precision=precision,
        batch_size=batch_size,
        max_pixels=max_pixels,
        max_error_rate=max_error_rate,
        seed=seed,
        execution=Execution(device, threads, workers),
    )
    if len(model) > 1 or against:
        from distill.stages.evaluate_several import evaluate_several

        found = evaluate_several(given, model, against or ())
        print_json(found.to_dict()) if as_json else _print_comparison(found)
        return
    evaluation = run(given)
    print_json(evaluation.to_dict()) if as_json else _print_evaluation(evaluation)


def _print_evaluation(evaluation: "Evaluation") -> None:
    """The metrics over all images, then those of every class."""
    metrics = evaluation.metrics
    where = evaluation.split or f"estimated by {evaluation.estimate}"
    rows = [
        [
            "images",
            f"{metrics['n'] if metrics['n'] is not None else '–'}, {len(evaluation.unreadable)} unreadable",
        ],
        ["top-1", percent(metrics["top1"], metrics["top1_interval"])],
        ["balanced accuracy", percent(metrics["balanced_accuracy"], metrics["balanced_accuracy_interval"])],
        ["calibration error", "–" if metrics["ece"] is None else f"{metrics['ece']:.3f}"],
        ["negative log-likelihood", "–" if metrics["nll"] is None else f"{metrics['nll']:.3f}"],
    ]
    print_table(f"{evaluation.kind} {evaluation.model} on {evaluation.data}", ["", where], rows)
    classes = [
        [
            name,
            str(one["support"]),
            percent(one["recall"], one["recall_interval"]),
            percent(one["precision"]),
        ]
        for name, one in metrics["per_class"].items()
    ]
    if classes:
        print_table("classes", ["class", "images", "recall", "precision"], classes)


def _print_comparison(found: "Comparison") -> None:
    """Every model, then the means over runs, then what the differences are worth."""
    names = list(found.over_models)
    rows = [
        [which, one.model, *(f"{100 * one.metrics[name]:.1f} %" for name in names)]
        for which, group in (("A", found.models), ("B", found.against))
        for one in group
    ]
    columns = [name.replace("_", " ") for name in names]
    print_table(f"{found.images:,} images", ["", "model", *columns], rows)
    means = [["A", *(_score(found.over_models[name]) for name in names)]]
    if found.against:
        means.append(["B", *(_score(found.over_against[name]) for name in names)])
    print_table("mean ± standard deviation over runs (95 % interval)", ["", *columns], means)
    differences = (
        [["A - B", *(_difference(found.difference[name]) for name in names)]] if found.against else []
    )
    for one, pairs in zip(found.models[1:], found.to_first):
        differences.append([f"{one.model} - first", *(_difference(pairs[name]) for name in names)])
    if differences:
        print_table("paired differences on the same images, points", ["", *columns], differences)


def _score(found: "OverRuns") -> str:
    return f"{found.percent} ({100 * found.low:.1f}–{100 * found.high:.1f}), {found.runs} runs"


def _difference(found: "Difference") -> str:
    return f"{100 * found.mean:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f}): {found.told}"
