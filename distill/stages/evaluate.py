"""`distill evaluate`: how good a teacher, a student or an export is on labelled images."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from distill.data.rendered import Rendering, check_readable
from distill.export.format import INT8, locate
from distill.finished.classifier import Classifier, open_classifier
from distill.loop.execution import Execution, torch_threads
from distill.loop.run_directory import REPORT, read_config
from distill.metrics import classification_metrics, log_softmax
from distill.models.student import read_classes, refuse_without_classifier
from distill.splits.checked import learnt_ids
from distill.stages.stored_estimate import read_estimate
from transferset.console import say
from transferset.cores import available_cores
from transferset.errors import DataError, NumericError, UsageError
from transferset.images import MAX_PIXELS
from transferset.labelled import SPLITS, LabelledImage, LabelledSet, load_labelled
from transferset.progress import progress
from transferset.prompts import valid_text
from transferset.writes import check_file, sweep_temporaries_of, write_parquet

ALL = "all"


@dataclass(frozen=True)
class EvaluateOptions:
    """What `distill evaluate` is given.

    `model`: the directory of a teacher, a run or an export, or an ONNX file in an export. `split`: of `data`,
    or `all` its images. `predictions`: a Parquet file for the answer to every image. `max_error_rate`: share
    of unreadable images that is an error. `seed`: of the bootstrap that compares several models.
    """

    model: Path
    data: Path
    split: str = "test"
    predictions: Path | None = None
    runtime: str = "auto"
    precision: str = "auto"
    batch_size: int = 64
    max_pixels: int = MAX_PIXELS
    max_error_rate: float | None = None
    seed: int = 0
    execution: Execution = field(default_factory=Execution)


@dataclass(frozen=True)
class Evaluation:
    """The result: `metrics` as `ClassificationMetrics.to_dict` gives them.

    `split` is what was evaluated; None if the data have no test split and the metrics are the `estimate`
    (says on what held-out images) that was stored with the model. A student's stored estimate knows only the
    metric that it was selected by. `learnt`: how many of the images the model itself was trained with or
    chosen by (None: not known).
    """

    model: str
    kind: str
    data: str
    split: str | None
    estimate: str | None
    metrics: dict[str, Any]
    unreadable: dict[str, str]
    learnt: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """One flat JSON object."""
        names = ("model", "kind", "data", "split", "estimate", "unreadable", "learnt")
        facts = {name: getattr(self, name) for name in names}
        return {**facts, **self.metrics}


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model said of the readable images: their `places` (n,) in the set, `labels` and `predicted`
    (n,), numbers of `classes`."""

    places: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    classes: tuple[str, ...]


def evaluate(options: EvaluateOptions) -> Evaluation:
    """Evaluate a model on a split of labelled images; without a test split, say what was estimated when it
    was made.

    Raises UsageError for an unknown split, DataError where the model or the data cannot be used, a class of
    the data is not the model's, or nothing of a class can be read; NumericError for logits that are not
    finite.
    """
    return evaluate_with_answers(options)[0]


def evaluate_with_answers(options: EvaluateOptions) -> tuple[Evaluation, Answers | None]:
    """`evaluate`, and what the model said of each image; None where there were none to ask about."""
    if options.split not in (*SPLITS, ALL):
        raise UsageError(f"unknown --split {options.split!r}", hint=f"one of: {', '.join((*SPLITS, ALL))}")
    if options.predictions is not None:
        if options.predictions.suffix != ".parquet":
            raise UsageError(f"--predictions {options.predictions} must end in .parquet")
        check_file(options.predictions, "--predictions")
    from transferset.models.runtime import resolve_device

    labelled = load_labelled(options.data)
    if labelled.warning is not None:
        say(f"note: {labelled.warning}")
    if not labelled.classes:
        raise UsageError(
            f"{options.data} has no labels", hint="sort the images into one folder for each class"
        )
    images = labelled if options.split == ALL else labelled.split(options.split)
    if not images.images:
        return _stored_estimate(options, labelled), None
    device = resolve_device(options.execution.device)
    with torch_threads(options.execution.threads or available_cores()):
        model = open_classifier(
            options.model,
            runtime=options.runtime,
            precision=options.precision,
            batch_size=options.batch_size,
            device=device,
            threads=options.execution.threads,
        )
        _check_classes(images, model.classes, options)
        logits, places, ids, reasons = _ask(options, model, images)
    _check_answers(images, places, reasons, logits, options)
    numbers = {name: number for number, name in enumerate(model.classes)}
    labels = np.array([numbers[str(images.images[place].label)] for place in places], dtype=np.int64)
    if options.predictions is not None:
        answered = [images.images[place] for place in places]
        _write_predictions(options, labelled.root, answered, labels, logits, model.classes)
    learnt = _learnt(options, images, places, ids)
    evaluation = Evaluation(
        model=str(options.model),
        kind=model.kind,
        data=str(options.data),
        split=options.split,
        estimate=None,
        metrics=classification_metrics(logits, labels, model.classes).to_dict(),
        unreadable={str(images.images[place].path): reason for place, reason in reasons.items()},
        learnt=learnt,
    )
    answers = Answers(np.array(places, np.int64), labels, logits.argmax(axis=1), model.classes)
    return evaluation, answers


def _learnt(options: EvaluateOptions, images: LabelledSet, places: list[int], ids: list[str]) -> int | None:
    """How many of the images the model has learnt from, or was chosen by, byte for byte; None: not known."""
    seen = learnt_ids(locate(options.model)[0])
    if seen is None:
        return None
    found = [place for place, identity in zip(places, ids) if identity in seen]
    if found and options.split == "test":
        say(
            f"warning: {len(found)} of {len(places)} test images are images that the model was trained with"
            f" or chosen by (the first: {images.images[found[0]].path}): the scores are too high"
        )
    return len(found)


def _check_classes(images: LabelledSet, classes: Sequence[str], options: EvaluateOptions) -> None:
    unknown = sorted(set(images.classes) - set(classes))
    if unknown:
        more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
        known = ", ".join(classes[:8]) + (", …" if len(classes) > 8 else "")
        raise DataError(
            f"{options.data} has classes that the model in {options.model} does not know: "
            f"{', '.join(unknown[:8])}{more}",
            hint=f"the model's {len(classes)} classes: {known}",
        )


def _ask(
    options: EvaluateOptions, model: Classifier, images: LabelledSet
) -> tuple[np.ndarray, list[int], list[str], dict[int, str]]:
    """Logits (n, C) of the readable images, their places in the set, their item ids, and why the others are
    not readable."""
    paths = [image.path for image in images.images]
    rendering = Rendering(
        model.preprocessing,
        options.batch_size,
        options.execution.readers,
        options.max_pixels,
        model.whole,
    )
    reasons: dict[int, str] = {}
    places: list[int] = []
    ids: list[str] = []
    outputs = [np.empty((0, len(model.classes)), np.float32)]
    with progress("evaluate", len(paths), "images") as bar:
        for batch in rendering.batches(paths):
            reasons.update(batch.reasons)
            rows = [row for row in range(len(batch)) if batch.start + row not in batch.reasons]
            if batch.pixels is not None and rows:
                outputs.append(model.logits(batch.pixels)[rows])
            places += [batch.start + row for row in rows]
            ids += [batch.ids[row].tobytes().hex() for row in rows]
            bar.advance(len(batch))
    return np.concatenate(outputs), places, ids, reasons


def _check_answers(
    images: LabelledSet,
    places: list[int],
    reasons: dict[int, str],
    logits: np.ndarray,
    options: EvaluateOptions,
) -> None:
    paths = [image.path for image in images.images]
    what = "images" if options.split == ALL else f"{options.split} images"
    if reasons:
        place, reason = next(iter(reasons.items()))
        say(f"{len(reasons)} of {len(paths)} {what} could not be read; the first: {paths[place]}: {reason}")
    check_readable(paths, reasons, options.max_error_rate, what)
    lost = sorted(set(images.classes) - {str(images.images[place].label) for place in places})
    if lost:
        raise DataError(f"no readable image of class {', '.join(lost)} among the {what} of {options.data}")
    if not np.isfinite(logits).all():
        raise NumericError(
            f"the model in {options.model} gives logits that are not finite", hint="try --precision fp32"
        )


def _stored_estimate(options: EvaluateOptions, labelled: LabelledSet) -> Evaluation:
    """What was estimated on held-out images when the model was made."""
    there = f"it has {', '.join(sorted(labelled.splits))}" if labelled.has_splits else "it has no splits"
    lacking = f"{options.data} has no {options.split} split ({there})"
    hint = f"--split {ALL} evaluates every image; too high for images that the model has learnt from"
    directory, name = locate(options.model)
    command = read_config(directory).get("command")
    if options.split != "test":
        raise DataError(lacking, hint=hint)
    if not (directory / REPORT).is_file():
        raise DataError(f"{options.model} is not finished", hint="run its command again until it is done")
    refuse_without_classifier(directory)
    judged_on, stored = read_estimate(directory / REPORT, command == "adapt")
    if judged_on is None or name == INT8:
        raise DataError(f"{lacking}, and {options.model} holds no estimate", hint=hint)
    _check_classes(labelled, read_classes(directory), options)
    chose = "" if "also chose" in judged_on else ", which also chose it"
    say(f"{lacking}: this is the estimate stored with the model, from {judged_on}{chose}")
    say(f"hint: {hint}")
    if options.predictions is not None:
        say(f"{options.predictions} is not written: there are no test images to predict")
    return Evaluation(
        model=str(options.model),
        kind={"adapt": "teacher", "export": "export"}.get(str(command), "student"),
        data=str(options.data),
        split=None,
        estimate=judged_on,
        metrics=stored,
        unreadable={},
    )


def _write_predictions(
    options: EvaluateOptions,
    root: Path,
    images: list[LabelledImage],
    labels: np.ndarray,
    logits: np.ndarray,
    classes: tuple[str, ...],
) -> None:
    """One row per image, in the set's order: image (path relative to the set), label, predicted,
    probabilities (a list of C float32 in the order of the classes, which the schema's metadata has as
    JSON)."""
    import pyarrow as pa

    assert options.predictions is not None
    probabilities = np.exp(log_softmax(logits)).astype(np.float32)
    table = pa.table(
        {
            "image": [valid_text(os.path.relpath(image.path, root)) for image in images],
            "label": [classes[number] for number in labels],
            "predicted": [classes[number] for number in logits.argmax(axis=1)],
            "probabilities": pa.FixedSizeListArray.from_arrays(probabilities.ravel(), len(classes)),
        }
    )
    sweep_temporaries_of(options.predictions)
    write_parquet(options.predictions, table.replace_schema_metadata({"classes": json.dumps(classes)}))
