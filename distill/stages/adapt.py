"""`distill adapt`: a frozen foundation model gets a head for the task from a few labelled images."""

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.data.adaptation_sets import AdaptationSets, load_adaptation_sets
from distill.data.features import VIEWS, FeatureStore, compute_features, features_key
from distill.data.rendered import Rendering, check_readable
from distill.loop.execution import Execution
from distill.loop.ledger import Ledger, flops_per_image
from distill.loop.run_directory import REPORT, RESTORE, RunDirectory
from distill.metrics import classification_metrics, expected_calibration_error, negative_log_likelihood
from distill.models.head_selection import (
    Choice,
    LabelledFeatures,
    choose_head,
    why_val_does_not_suffice,
)
from distill.models.heads import CLASS_WEIGHTS
from distill.models.teacher import (
    backbone_facts,
    check_precision,
    check_runtime,
    parse_teacher_spec,
    runtime_facts,
    write_teacher,
)
from distill.splits.checked import check_splits
from transferset.console import say
from transferset.errors import DataError, UsageError
from transferset.images import MAX_PIXELS
from transferset.labelled import LabelledSet, load_labelled
from transferset.lock import DirectoryLock
from transferset.writes import write_json

if TYPE_CHECKING:
    from transferset.models.backbone import Backbone
    from transferset.models.runtime import FrozenModel

FEATURES = "features"
UNREADABLE = "unreadable.json"
_IMBALANCE = 5


@dataclass(frozen=True)
class AdaptOptions:
    """What `distill adapt` is given.

    `teacher`: a model spec. `image_size`: of the teacher's input, by default the model's own. `flip`: the
    head also learns from mirrored images. `class_weight`: `none` or `balanced` (every class counts the same,
    for rare ones). `folds`: of the cross-validation where val does not decide. `drop_near_copies`: leave out
    training images that look like val or test images (exact copies go in any case). `max_error_rate`: share
    of unreadable images that is an error.
    """

    data: Path
    teacher: str
    out: Path
    image_size: int | None = None
    flip: bool = True
    class_weight: str = "none"
    folds: int = 5
    drop_near_copies: bool = False
    seed: int = 0
    runtime: str = "auto"
    precision: str = "auto"
    batch_size: int = 64
    max_pixels: int = MAX_PIXELS
    max_error_rate: float | None = None
    execution: Execution = field(default_factory=Execution)


@dataclass(frozen=True)
class AdaptReport:
    """The result of `distill adapt`, as `report.json` holds it.

    `images`: how many of each split were used; `dropped`: how many were unreadable. `trials`: the grid.
    `estimate`: the metrics of `distill.metrics` on the held-out images that `judged_on` names, for the
    temperature that is kept; `val`: the same on a val split that was too small to judge. `calibration`: nll
    and ece before and after.
    """

    out: str
    classes: int
    images: dict[str, int]
    dropped: int
    trials: list[dict[str, float]]
    strength: float
    temperature: float
    judged_on: str
    estimate: dict[str, Any]
    calibration: dict[str, float]
    val: dict[str, Any] | None
    runtime: dict[str, Any]
    costs: dict[str, Any]
    fingerprint: str


def adapt(options: AdaptOptions) -> AdaptReport:
    """Adapt a teacher; it is written to, and resumed in, `options.out`.

    Features of the frozen model are computed once; a linear head is chosen from a grid of penalties and its
    temperature fitted, on val or by cross-validation (see `choose_head`). The test split is not looked at.

    Raises UsageError for options that don't fit each other or what is there, DataError for labels or images
    that cannot be used or weights that cannot be had, NumericError for features that are not finite.
    """
    from transferset.models.backbone import load_backbone
    from transferset.models.runtime import resolve_device

    _check(options)
    resolve_device(options.execution.device)
    sets = load_adaptation_sets(options.data)
    backbone = load_backbone(
        parse_teacher_spec(options.teacher), image_size=options.image_size, seed=options.seed
    )
    checked = check_splits(
        load_labelled(options.data),
        drop_near=options.drop_near_copies,
        max_pixels=options.max_pixels,
        workers=options.execution.workers,
    )
    sets = load_adaptation_sets(options.data, checked.labelled)
    run = RunDirectory(options.out)
    with DirectoryLock(options.out):
        run.open(_config(options, sets, backbone))
        checked.record(options.out)
        done = run.report()
        if done is not None:
            say(f"{options.out} is complete: nothing to do")
            try:
                return AdaptReport(**done)
            except TypeError as error:
                message = f"{options.out / REPORT} is not that of a teacher: {error}"
                raise DataError(message, hint=RESTORE) from error
        return _Adapting(options, sets, backbone).run()


def _check(options: AdaptOptions) -> None:
    check_runtime(options.runtime)
    check_precision(options.precision)
    if options.class_weight not in CLASS_WEIGHTS:
        raise UsageError(
            f"unknown --class-weight {options.class_weight!r}", hint=f"one of: {', '.join(CLASS_WEIGHTS)}"
        )
    if options.folds < 2:
        raise UsageError(f"--folds {options.folds} must be at least 2")
    if options.batch_size < 1:
        raise UsageError(f"--batch-size {options.batch_size} must be positive")


def _config(options: AdaptOptions, sets: AdaptationSets, backbone: "Backbone") -> dict[str, Any]:
    """config.json: `arguments` and `inputs` are what a resumed run must agree with."""
    return {
        "command": "adapt",
        "arguments": {
            "teacher": options.teacher,
            "image_size": backbone.preprocessing.size,
            "flip": options.flip,
            "class_weight": options.class_weight,
            "folds": options.folds,
            "seed": options.seed,
            "max_pixels": options.max_pixels,
        },
        "inputs": {
            "classes": len(sets.classes),
            "train_images": len(sets.train.images),
            "val_images": len(sets.val.images),
            "images_sha256": sets.fingerprint,
            "weights_sha256": backbone.weights_sha256,
        },
        "backbone": backbone_facts(backbone, options.seed),
    }


class _Adapting:
    """One run: features of train and val, the choice of the head, the files."""

    def __init__(self, options: AdaptOptions, sets: AdaptationSets, backbone: "Backbone") -> None:
        self.options = options
        self.sets = sets
        self.backbone = backbone
        self.ledger = Ledger()
        self.dropped: dict[str, str] = {}

    def run(self) -> AdaptReport:
        """Do it and write it; the report comes last and marks the teacher as done."""
        from transferset.models.runtime import open_runtime

        options, classes = self.options, self.sets.classes
        flops = flops_per_image(self.backbone.module, self.backbone.preprocessing.size, backward=False)
        model = open_runtime(
            self.backbone,
            runtime=check_runtime(options.runtime),
            precision=options.precision,
            batch_size=options.batch_size,
            device=options.execution.device,
            threads=options.execution.threads,
        )
        train = self.features("train", self.sets.train, model, flops)
        val = self.features("val", self.sets.val, model, flops)
        self.check_classes(train.labels)
        judge = val if len(val) else None
        self.tell(train.labels, judge)
        with self.ledger.timed("head", len(train)):
            choice = choose_head(
                train,
                judge,
                classes=len(classes),
                class_weight=options.class_weight,
                folds=options.folds,
                seed=options.seed,
            )
        fingerprint = write_teacher(options.out, self.backbone, choice.head, classes)
        report = self.report(choice, {"train": len(train), "val": len(val)}, judge, model, fingerprint)
        write_json(options.out / REPORT, asdict(report))
        return report

    def features(
        self, split: str, images: LabelledSet, model: "FrozenModel", flops: float
    ) -> LabelledFeatures:
        """Features and labels of the readable images of a split."""
        views = VIEWS if split == "train" and self.options.flip else VIEWS[:1]
        key = features_key(self.backbone.fingerprint, model, views)
        store = FeatureStore(self.options.out / FEATURES, key, views, model.dimension)
        paths = [image.path for image in images.images]
        rendering = Rendering(
            model.preprocessing, model.batch_size, self.options.execution.readers, self.options.max_pixels
        )
        what = f"{split} images"
        start = time.perf_counter()
        found = compute_features(paths, model, rendering, store, what)
        seen = len(found.places) * len(views)  # also what an earlier piece of the run computed
        self.ledger.add("features", seen, time.perf_counter() - start, seen * flops)
        self.record(paths, found.reasons)
        if split == "train" or self.options.max_error_rate is not None:
            check_readable(paths, found.reasons, self.options.max_error_rate, what)
        numbers = {name: number for number, name in enumerate(self.sets.classes)}
        labels = [numbers[str(images.images[place].label)] for place in found.places]
        return LabelledFeatures(found.features, np.array(labels, np.int64))

    def record(self, paths: list[Path], reasons: dict[int, str]) -> None:
        """The error list."""
        self.dropped.update({str(paths[place]): reason for place, reason in reasons.items()})
        if reasons:
            write_json(self.options.out / UNREADABLE, self.dropped)
            place, reason = next(iter(reasons.items()))
            say(f"{len(reasons)} images could not be read; the first: {paths[place]}: {reason}")

    def check_classes(self, labels: np.ndarray) -> None:
        """Every class has a readable training image."""
        counts = np.bincount(labels, minlength=len(self.sets.classes))
        lost = [name for name, count in zip(self.sets.classes, counts) if not count]
        if lost:
            raise DataError(
                f"no readable training image of class {', '.join(lost)}",
                hint=f"{self.options.out / UNREADABLE} says why; replace the images or remove the class, "
                "then give a new --out",
            )

    def tell(self, labels: np.ndarray, val: LabelledFeatures | None) -> None:
        """What the user should know before the head is chosen."""
        options, counts = self.options, np.bincount(labels)
        if val is not None and (
            why := why_val_does_not_suffice(val.labels, len(self.sets.classes), options.class_weight)
        ):
            say(f"val does not choose the head, because {why}: cross-validation does")
        if options.class_weight == "none" and counts.max() > _IMBALANCE * counts.min():
            say(
                f"classes are imbalanced ({counts.min()} to {counts.max()} images): "
                "--class-weight balanced makes every class count the same"
            )

    def report(
        self,
        choice: Choice,
        images: dict[str, int],
        val: LabelledFeatures | None,
        model: "FrozenModel",
        fingerprint: str,
    ) -> AdaptReport:
        """Everything that was found out."""
        classes, temperature = self.sets.classes, choice.head.temperature
        calibrated = choice.logits / np.float32(temperature)
        extra = None
        if val is not None and choice.judged_on != "val":
            logits = choice.head.logits(val.features[:, 0])
            extra = classification_metrics(logits, val.labels, classes).to_dict()
        return AdaptReport(
            out=str(self.options.out),
            classes=len(classes),
            images=images,
            dropped=len(self.dropped),
            trials=[asdict(trial) for trial in choice.trials],
            strength=choice.chosen.strength,
            temperature=temperature,
            judged_on=choice.judged_on,
            estimate=classification_metrics(calibrated, choice.labels, classes).to_dict(),
            calibration={
                "nll_before": negative_log_likelihood(choice.logits, choice.labels),
                "nll_after": negative_log_likelihood(calibrated, choice.labels),
                "ece_before": expected_calibration_error(choice.logits, choice.labels),
                "ece_after": expected_calibration_error(calibrated, choice.labels),
            },
            val=extra,
            runtime=runtime_facts(model),
            costs=self.ledger.to_dict(),
            fingerprint=fingerprint,
        )
