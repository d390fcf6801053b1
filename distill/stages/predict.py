"""`distill predict`: what is on images, by any finished model."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from distill.data.image_stream import StreamBatch, Streaming, list_images
from distill.export.format import check_files, locate
from distill.finished.classifier import Classifier, open_classifier
from distill.finished.rejection import (
    SCORE,
    Rejection,
    draw,
    pool_scores,
    precision_of,
    read_rejection,
    threshold_of,
    write_rejection,
)
from distill.loop.execution import Execution, torch_threads
from distill.metrics import log_softmax
from distill.models.student import MODEL
from distill.predictions import Prediction, TableWriter, check_table, table_writer
from transferset.console import say
from transferset.cores import available_cores
from transferset.errors import DataError, NumericError, UsageError
from transferset.images import MAX_PIXELS
from transferset.progress import progress

MOST_NAMES = 100


@dataclass(frozen=True)
class PredictOptions:
    """What `distill predict` is given.

    `model`: a teacher, a run, an export, or an ONNX file in an export. `images`: see `list_images`. `table`:
    a Parquet or CSV file for all predictions. `reject_from`: images, of a pool, `reject_images` random ones
    of which fit the threshold that rejects `reject_quantile` of them; an export keeps it, and later uses it
    unless `reject` is False.
    """

    model: Path
    images: tuple[str, ...]
    table: Path | None = None
    reject_from: tuple[str, ...] = ()
    reject_quantile: float = 0.95
    reject_images: int = 1000
    reject: bool = True
    runtime: str = "auto"
    precision: str = "auto"
    batch_size: int = 64
    max_pixels: int = MAX_PIXELS
    seed: int = 0
    execution: Execution = field(default_factory=Execution)


@dataclass(frozen=True)
class PredictReport:
    """The result: how many images were `predicted` (rejected ones among them), as which of the `classes`
    (without the rejected ones), and how many `failed`; `unreadable` says why, by name, of the first
    MOST_NAMES of these. `rejected` and `rejection` are None where no threshold was used."""

    model: str
    kind: str
    predicted: int
    classes: dict[str, int]
    rejected: int | None
    failed: int
    unreadable: dict[str, str]
    rejection: dict[str, Any] | None
    table: str | None
    seconds: float


def predict(options: PredictOptions, each: Callable[[Prediction], None] | None = None) -> PredictReport:
    """Predict images as they are read; `each` gets every prediction, in their order.

    Raises UsageError for options that don't fit, DataError for a model that cannot be used or if not a single
    image was readable, NumericError for logits that are not finite.
    """
    from transferset.models.runtime import resolve_device

    if options.table is not None:
        check_table(options.table)
    if options.reject_from and not options.reject:
        raise UsageError("--reject-from fits a threshold, --no-reject uses none", hint="leave one out")
    if not 0 <= options.reject_quantile <= 1 or options.reject_images < 1 or options.batch_size < 1:
        raise UsageError(
            "--reject-quantile lies between 0 and 1, --reject-images and --batch-size are positive"
        )
    images = list_images(options.images)
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
        streaming = Streaming(
            model.preprocessing,
            options.batch_size,
            options.execution.readers,
            options.max_pixels,
            model.whole,
        )
        rejection = _rejection(options, model, streaming)
        predicting = _Predicting(options, model, rejection, each)
        return predicting.run(streaming.batches(images))


def _rejection(options: PredictOptions, model: Classifier, streaming: Streaming) -> Rejection | None:
    """Fitted now, or what the export holds."""
    directory, name = locate(options.model)
    exported = model.kind == "export"
    weights = check_files(directory, ())["files"][MODEL]["sha256"] if exported else None
    if not options.reject_from:
        if not exported or not options.reject:
            return None
        return read_rejection(directory, precision_of(name), str(weights))
    drawn = draw(list_images(options.reject_from), options.reject_images, options.seed)
    values = pool_scores(model.logits, drawn, streaming)
    rejection = Rejection(
        score=SCORE,
        threshold=threshold_of(values, options.reject_quantile),
        quantile=options.reject_quantile,
        images=len(values),
        unreadable=len(drawn) - len(values),
        pool=tuple(Path(given).name for given in options.reject_from),
        seed=options.seed,
        precision=precision_of(name),
        weights_sha256=weights,
    )
    say(
        f"rejecting images whose {SCORE} is below {rejection.threshold:.3f}:"
        f" {rejection.quantile:.0%} of {rejection.images} random images are"
    )
    if exported:
        write_rejection(directory, rejection)
    return rejection


class _Predicting:
    """Counts, and hands on, what the model says."""

    def __init__(
        self,
        options: PredictOptions,
        model: Classifier,
        rejection: Rejection | None,
        each: Callable[[Prediction], None] | None,
    ) -> None:
        self.options = options
        self.model = model
        self.rejection = rejection
        self.each = each
        self.counts = dict.fromkeys(model.classes, 0)
        self.predicted = self.rejected = self.failed = 0
        self.unreadable: dict[str, str] = {}

    def run(self, batches: Iterator[StreamBatch]) -> PredictReport:
        """Go through the images."""
        start, table = time.perf_counter(), self.options.table
        writing: AbstractContextManager[TableWriter | None] = (
            nullcontext() if table is None else table_writer(table, self.model.classes)
        )
        with writing as writer, progress("predict", None, "images") as bar:
            for batch in batches:
                predictions = self.answer(batch)
                if writer is not None:
                    writer.write(predictions)
                for prediction in predictions:
                    self.count(prediction)
                bar.advance(len(predictions))
            self.check()
        return PredictReport(
            model=str(self.options.model),
            kind=self.model.kind,
            predicted=self.predicted,
            classes=self.counts,
            rejected=None if self.rejection is None else self.rejected,
            failed=self.failed,
            unreadable=self.unreadable,
            rejection=None if self.rejection is None else asdict(self.rejection),
            table=None if table is None else str(table),
            seconds=time.perf_counter() - start,
        )

    def answer(self, batch: StreamBatch) -> list[Prediction]:
        """One prediction an image, also for unreadable ones."""
        logits = np.empty((0, len(self.model.classes)), np.float32)
        if len(batch.pixels):
            logits = self.model.logits(batch.pixels)
        if not np.isfinite(logits).all():
            raise NumericError(f"the model in {self.options.model} gives logits that are not finite")
        probabilities = np.exp(log_softmax(logits)).astype(np.float32) if len(logits) else logits
        rejected = self.rejection.rejects(logits) if self.rejection is not None and len(logits) else None
        found: list[Prediction] = []
        rows = iter(range(len(logits)))
        for place, (image, identity) in enumerate(zip(batch.images, batch.ids)):
            item_id = None if identity is None else identity.hex()
            if place in batch.reasons:
                reason = batch.reasons[place]
                found.append(Prediction(image.name, item_id, None, None, None, None, reason))
                continue
            row = next(rows)
            best = int(probabilities[row].argmax())
            found.append(
                Prediction(
                    image=image.name,
                    item_id=item_id,
                    predicted=self.model.classes[best],
                    probability=float(probabilities[row, best]),
                    rejected=None if rejected is None else bool(rejected[row]),
                    probabilities=probabilities[row],
                )
            )
        return found

    def count(self, prediction: Prediction) -> None:
        """Add to the totals and hand on."""
        if prediction.error is not None:
            self.failed += 1
            if len(self.unreadable) < MOST_NAMES:
                self.unreadable[prediction.image] = prediction.error
        else:
            self.predicted += 1
            if prediction.rejected:
                self.rejected += 1
            else:
                self.counts[str(prediction.predicted)] += 1
        if self.each is not None:
            self.each(prediction)

    def check(self) -> None:
        """Tell what was not readable; DataError if nothing was."""
        if not self.predicted and not self.failed:
            raise DataError(f"no image in {', '.join(self.options.images)}")
        if self.failed:
            name, reason = next(iter(self.unreadable.items()))
            if not self.predicted:
                raise DataError(
                    f"none of the {self.failed} images could be read; the first: {name}: {reason}"
                )
            say(f"{self.failed} images could not be read; the first: {name}: {reason}")
