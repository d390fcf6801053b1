"""The adaptation of a teacher under way: features, head, finetuning, files."""

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.data.adaptation_sets import AdaptationSets
from distill.data.features import VIEWS, FeatureStore, compute_features, features_key
from distill.data.labelled_images import LabelledImages
from distill.data.rendered import Rendering, check_readable
from distill.data.samples import ImageReader, samples_of_files
from distill.loop.ledger import Ledger
from distill.loop.mode import Mode
from distill.loop.run_directory import REPORT, RunDirectory
from distill.metrics import classification_metrics, expected_calibration_error, negative_log_likelihood
from distill.models.flops import flops_per_image
from distill.models.head_selection import Choice, LabelledFeatures, choose_head, why_val_does_not_suffice
from distill.models.heads import LinearHead
from distill.models.student import Student
from distill.models.teacher import check_runtime, runtime_facts, write_teacher
from distill.models.text_head import text_head
from distill.stages.adapt_config import uses_text
from distill.stages.adapt_options import AdaptOptions, AdaptReport
from distill.stages.tuning import logits_of, remove_pieces, tune
from distill.stages.tuning_inputs import Tuned, TuningInputs, candidates_as_json, tuning_recipe
from transferset.console import say
from transferset.errors import DataError
from transferset.labelled import LabelledSet
from transferset.writes import read_json, write_json

if TYPE_CHECKING:
    from transferset.models.backbone import Backbone
    from transferset.models.runtime import FrozenModel

FEATURES = "features"
UNREADABLE = "unreadable.json"
RUNTIME = "runtime.json"
_IMBALANCE = 5


class Adapting:
    """One run: features of train and val, the choice of the head, the finetuning if there is one, the
    files."""

    def __init__(
        self,
        options: AdaptOptions,
        sets: AdaptationSets,
        backbone: "Backbone",
        run: RunDirectory,
        student: Student | None,
        mode: Mode,
    ) -> None:
        self.options = options
        self.sets = sets
        self.backbone = backbone
        self.directory = run
        self.student = student
        self.mode = mode
        self.ledger = Ledger()
        self.flops = flops_per_image(backbone.module, backbone.preprocessing.size, backward=False)
        self.dropped: dict[str, str] = {}

    def run(self) -> AdaptReport:
        """Do it and write it; the report comes last and marks the teacher as done."""
        options, classes = self.options, self.sets.classes
        model = self.frozen()
        train = self.features("train", self.sets.train, model)
        val = self.features("val", self.sets.val, model)
        self.check_classes(train.labels)
        judge = val if len(val) else None
        self.tell(train.labels, judge)
        choice = self.choose(train, judge)
        tuned = None
        if self.student is not None:
            tuned = self.tune(self.student, model, choice, train, judge)
        backbone, head, seed = self.backbone, choice.head, None
        if tuned is not None and tuned.backbone is not None and tuned.head is not None:
            backbone, head, seed = tuned.backbone, tuned.head, options.seed
        fingerprint = write_teacher(options.out, backbone, head, classes, seed)
        report = self.report(choice, tuned, head, {"train": len(train), "val": len(val)}, judge)
        report = replace(report, runtime=runtime_facts(model), fingerprint=fingerprint)
        write_json(options.out / REPORT, asdict(report))
        remove_pieces(options.out)
        return report

    def frozen(self) -> "FrozenModel":
        """The given model on the runtime that the run has begun on, if it is left to us."""
        from transferset.models.runtime import open_runtime

        options, path = self.options, self.options.out / RUNTIME
        begun = read_json(path) if path.exists() else {}
        model = open_runtime(
            self.backbone,
            runtime=check_runtime(_first_or(begun, "runtime", options.runtime)),
            precision=_first_or(begun, "precision", options.precision),
            batch_size=options.batch_size,
            device=options.execution.device,
            threads=options.execution.threads,
        )
        write_json(path, {"runtime": model.info.runtime, "precision": model.info.precision})
        return model

    def choose(self, train: LabelledFeatures, judge: LabelledFeatures | None) -> Choice:
        """The head on the frozen model."""
        options, classes, text = self.options, self.sets.classes, None
        if uses_text(options, self.backbone):
            with self.ledger.timed("class names"):
                text = text_head(self.backbone, classes, options.text)
        with self.ledger.timed("head", len(train)):
            return choose_head(
                train,
                judge,
                classes=len(classes),
                class_weight=options.class_weight,
                folds=options.folds,
                seed=options.seed,
                text=text,
            )

    def tune(
        self,
        student: Student,
        model: "FrozenModel",
        choice: Choice,
        train: LabelledFeatures,
        val: LabelledFeatures | None,
    ) -> Tuned:
        """Finetune, on the images that the head was fitted on and judged by those that have judged it."""
        judges = val is not None and choice.judged_on == "val"
        inputs = TuningInputs(
            options=self.options,
            run=self.directory,
            classes=self.sets.classes,
            backbone=self.backbone,
            frozen=model,
            choice=choice,
            features=train,
            train=self.images(self.sets.train, train),
            val=self.images(self.sets.val, val) if val is not None and judges else None,
            recipe=tuning_recipe(self.options, len(self.sets.train.images)),
            mode=self.mode,
            ledger=self.ledger,
        )
        return tune(inputs, student)

    def images(self, images: LabelledSet, used: LabelledFeatures) -> LabelledImages:
        """The images whose features were used."""
        assert used.places is not None
        paths = [images.images[place].path for place in used.places]
        reader = ImageReader(
            samples_of_files(paths),
            self.backbone.preprocessing.resize_short_side,
            cache_bytes=(self.options.execution.cache_mb << 20) // 2,
            max_pixels=self.options.max_pixels,
            checked=True,
        )
        return LabelledImages(reader, used.labels, self.sets.classes, {})

    def features(self, split: str, images: LabelledSet, model: "FrozenModel") -> LabelledFeatures:
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
        self.ledger.add("features", seen, time.perf_counter() - start, seen * self.flops)
        self.record(paths, found.reasons)
        if split == "train" or self.options.max_error_rate is not None:
            check_readable(paths, found.reasons, self.options.max_error_rate, what)
        numbers = {name: number for number, name in enumerate(self.sets.classes)}
        labels = [numbers[str(images.images[place].label)] for place in found.places]
        return LabelledFeatures(found.features, np.array(labels, np.int64), found.places)

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
                "--class-weight balanced makes every class count equally"
            )

    def report(
        self,
        choice: Choice,
        tuned: Tuned | None,
        head: LinearHead,
        images: dict[str, int],
        val: LabelledFeatures | None,
    ) -> AdaptReport:
        """Everything that was found out, but for the runtime and the fingerprint."""
        logits = choice.logits if tuned is None else tuned.logits
        temperature = choice.head.temperature
        if tuned is not None and tuned.chosen:
            temperature = tuned.candidates[tuned.chosen].temperature
        calibrated = logits / np.float32(temperature)
        extra = None
        if val is not None and choice.judged_on != "val":
            extra = classification_metrics(
                self.logits_on(val, head, tuned), val.labels, self.sets.classes
            ).to_dict()
        return AdaptReport(
            out=str(self.options.out),
            classes=len(self.sets.classes),
            images=images,
            dropped=len(self.dropped),
            trials=[asdict(trial) for trial in choice.trials],
            strength=choice.chosen.strength,
            temperature=temperature,
            judged_on=choice.judged_on,
            estimate=classification_metrics(calibrated, choice.labels, self.sets.classes).to_dict(),
            calibration={
                "nll_before": negative_log_likelihood(logits, choice.labels),
                "nll_after": negative_log_likelihood(calibrated, choice.labels),
                "ece_before": expected_calibration_error(logits, choice.labels),
                "ece_after": expected_calibration_error(calibrated, choice.labels),
            },
            val=extra,
            runtime={},
            costs=self.ledger.to_dict(),
            fingerprint="",
            text=choice.chosen.text,
            tune=self.options.tuning.mode,
            candidates=candidates_as_json(tuned) if tuned else [],
            chosen=tuned.chosen if tuned else 0,
            skipped_steps=tuned.skipped_steps if tuned else 0,
        )

    def logits_on(self, val: LabelledFeatures, head: LinearHead, tuned: Tuned | None) -> np.ndarray:
        """Calibrated logits of the teacher that is kept, on val."""
        if tuned is None or not tuned.chosen or self.student is None:
            return head.logits(val.features[:, 0])
        with self.ledger.timed("evaluate", len(val), len(val) * self.flops):
            logits = logits_of(self.student, self.images(self.sets.val, val))
        return np.asarray(logits / np.float32(head.temperature))


def _first_or(begun: dict[str, Any], name: str, given: str) -> str:
    """What a run has begun with where it is left to us."""
    return str(begun.get(name, given)) if given == "auto" else given
