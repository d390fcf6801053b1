"""The finetuning of a teacher's backbone, always against the frozen teacher on the same held-out images."""

import shutil
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.data.batches import Batch, BatchReader, ViewPlan
from distill.data.labelled_images import LabelledImages
from distill.data.views import augmentation
from distill.loop.checkpoints import Checkpoints
from distill.loop.hooks import Hooks
from distill.loop.ledger import Ledger
from distill.loop.recipe import Recipe
from distill.loop.run_directory import CHECKPOINTS, REPLAY
from distill.loop.trainer import Trainer
from distill.methods.retention import Retention, with_labels
from distill.methods.supervised import Supervised, balanced_weights
from distill.models.flops import flops_per_image
from distill.models.head_selection import held_out_folds
from distill.models.heads import LinearHead, fit_temperature, image_weights
from distill.models.student import Student, predict
from distill.stages.adapt_options import FULL
from distill.stages.tuning_inputs import (
    Candidate,
    Tuned,
    TuningInputs,
    held_out_path,
    read_logits,
    write_logits,
)
from distill.task import accuracy, balanced_accuracy
from transferset.console import say
from transferset.writes import read_json, write_json

if TYPE_CHECKING:
    from torch import Tensor, nn


DONE = "done.json"
_HOPELESS = 1e6


def tune(inputs: TuningInputs, student: Student) -> Tuned:
    """Finetune `student` and choose among what it was at every evaluation and the frozen teacher, by val or
    by the folds that chose the head: the smallest loss at the best temperature of those that tell no fewer
    images right than the frozen teacher.

    "LP-FT" is A. Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-
    Distribution" (ICLR 2022).
    """
    return _Tuning(inputs, student).run()


def remove_pieces(out: Path) -> None:
    """What a finished teacher needs no more."""
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)


class _Tuning:
    def __init__(self, inputs: TuningInputs, student: Student) -> None:
        self.inputs = inputs
        self.options = inputs.options
        self.student = student
        self.module: Any = student.module
        size = student.preprocessing.size
        self.flops = flops_per_image(self.module, size, backward=False)
        self.frozen_flops = flops_per_image(inputs.backbone.module, size, backward=False)
        self.recipe = inputs.recipe
        self.weight = self.options.class_weight
        self.score = balanced_accuracy if self.weight == "balanced" else accuracy
        choice = inputs.choice
        self.frozen = self.judge(0, choice.logits, choice.labels)
        self.skipped = 0

    def run(self) -> Tuned:
        """By val, or by folds."""
        if self.inputs.val is not None:
            return self.by_val(self.inputs.val)
        return self.by_folds()

    def by_val(self, val: LabelledImages) -> Tuned:
        """One training; the best of its evaluations."""
        trainer = self.fit(None, val, self.recipe, None)
        places = {step: held_out_path(self.checkpoints(None), step) for step, _ in trainer.at.scores}
        held_out = {step: read_logits(path) for step, path in places.items()}
        candidates, chosen = self.choose(held_out, val.labels)
        self.skipped = trainer.at.skipped
        if not chosen:
            return self.stays(candidates)
        return self.tuned(candidates, chosen, held_out, trainer.best_weights())

    def by_folds(self) -> Tuned:
        """The number of steps that held-out images of all folds like best, then a training on all images."""
        inputs = self.inputs
        labels = inputs.train.labels
        folds = min(self.options.folds, int(np.bincount(labels).max()))
        fold_of = held_out_folds(labels, folds, self.options.seed)
        pooled: dict[int, np.ndarray] = {}
        for fold in np.unique(fold_of[fold_of >= 0]).tolist():
            held_out = np.flatnonzero(fold_of == fold)
            for step, logits in self.fold(fold, held_out, np.flatnonzero(fold_of != fold)).items():
                places = pooled.setdefault(step, np.zeros((len(labels), len(inputs.classes)), np.float32))
                places[held_out] = logits
        kept = fold_of >= 0
        judged = {step: logits[kept] for step, logits in pooled.items()}
        candidates, chosen = self.choose(judged, labels[kept])
        if not chosen:
            return self.stays(candidates)
        recipe = replace(self.recipe, stop_at=candidates[chosen].step, eval_every=0, patience=0)
        trainer = self.fit(None, None, recipe, "all")
        self.skipped += trainer.at.skipped
        return self.tuned(candidates, chosen, judged, trainer.best_weights())

    def fold(self, fold: int, held_out: np.ndarray, seen: np.ndarray) -> dict[int, np.ndarray]:
        """Logits of the held-out images at every evaluation of a training on the `seen` ones."""
        part = f"fold-{fold}"
        directory = self.checkpoints(part)
        if not (directory / DONE).exists():
            images = self.inputs.train.subset(held_out)
            trainer = self.fit(seen, images, replace(self.recipe, patience=0), part)
            steps = [step for step, _ in trainer.at.scores]
            done = {"steps": steps, "skipped": trainer.at.skipped, "costs": trainer.ledger.to_dict()}
            write_json(directory / DONE, done)
            for path in (*directory.glob("step-*"), *directory.glob("best-*")):
                path.unlink()
        else:
            self.add_costs(Ledger.from_dict(read_json(directory / DONE)["costs"]))
        done = read_json(directory / DONE)
        self.skipped += int(done["skipped"])
        return {int(step): read_logits(held_out_path(directory, int(step))) for step in done["steps"]}

    def choose(
        self, held_out: dict[int, np.ndarray], labels: np.ndarray
    ) -> tuple[tuple[Candidate, ...], int]:
        """All candidates, the frozen teacher first, and the place of the best."""
        candidates = (self.frozen, *(self.judge(step, held_out[step], labels) for step in sorted(held_out)))
        chosen = max(range(len(candidates)), key=lambda place: (self.rank(candidates[place]), -place))
        best = candidates[chosen]
        if chosen:
            said = f"right {self.frozen.score:.1%} → {best.score:.1%}, loss {self.frozen.loss:.3f}"
            where = f"{self.inputs.choice.judged_on} after {best.step} steps"
            say(f"finetuning helps on {where}: {said} → {best.loss:.3f}")
        else:
            say(f"finetuning does not help on {self.inputs.choice.judged_on}: the frozen teacher stays")
        return candidates, chosen

    def judge(self, step: int, logits: np.ndarray, labels: np.ndarray) -> Candidate:
        """What is said of a candidate by its logits."""
        if not np.isfinite(logits).all():
            return Candidate(step, _HOPELESS, 0.0, 1.0)
        temperature, loss = fit_temperature(logits, labels, image_weights(labels, self.weight))
        return Candidate(step, loss, self.score(logits, labels), temperature)

    def rank(self, candidate: Candidate) -> float:
        """The larger the better; worse than nothing where fewer images are told right than by the frozen
        teacher."""
        worse = candidate.score < self.frozen.score
        return -round(candidate.loss, 6) - (_HOPELESS if worse else 0.0)

    def fit(
        self, rows: np.ndarray | None, held_out: LabelledImages | None, recipe: Recipe, part: str | None
    ) -> Trainer:
        """Train from the start on some of the images (None: all); `part` names a fold, or the last training
        where there are folds."""
        inputs, options, ledger = self.inputs, self.options, Ledger()
        start = self.start(rows)
        train = inputs.train if rows is None else inputs.train.subset(rows)
        plan = ViewPlan(augmentation(options.tuning.augment), options.seed, recipe.batch_size)
        reader = BatchReader(train.reader, plan, self.student.preprocessing)

        def stream(step: int) -> Generator[Batch]:
            for batch in reader.stream(step, recipe.end, options.execution.readers):
                labels = train.labels[batch.indices]
                yield replace(batch, targets=self.targets(labels, batch.images, start, ledger))

        directory = self.checkpoints(part)
        score = None
        if held_out is not None:
            score = self.scorer(held_out, directory, lambda: trainer.at.step, ledger)
        hooks = Hooks(
            stream=stream,
            method=self.loss(train.labels),
            score=score,
            log=lambda entry: inputs.run.log({**entry, "part": part} if part else entry),
            rewind=lambda step: inputs.run.rewind(step, part),
            title=f"tune {part}" if part else "tune",
            replay=options.out / REPLAY / (part or ""),
        )
        trainer = Trainer(self.student, recipe, hooks, Checkpoints(directory), ledger, inputs.mode)
        trainer.run()
        self.add_costs(ledger)
        return trainer

    def start(self, rows: np.ndarray | None) -> LinearHead:
        """Put the model where training on these rows starts; returns the head of the frozen teacher that has
        seen no others."""
        inputs = self.inputs
        self.module.backbone.load_state_dict(inputs.backbone.module.state_dict())
        head = inputs.choice.head
        if rows is not None:
            head = inputs.choice.refit(inputs.features.subset(rows), len(inputs.classes), self.weight)
        fresh = self.options.tuning.mode == FULL
        self.module.set_head(inputs.choice.text if fresh else head)
        return head

    def loss(self, labels: np.ndarray) -> Callable[["Tensor", "Tensor"], "Tensor"]:
        """Cross-entropy, unsmoothed (smoothed teachers teach worse: R. Müller et al., 2019), with retention
        if asked for."""
        weights = balanced_weights(labels, len(self.inputs.classes)) if self.weight == "balanced" else None
        own, retention = Supervised(0.0, weights), self.options.tuning.retention
        return Retention(own, retention) if retention else own

    def targets(self, labels: np.ndarray, images: np.ndarray, head: LinearHead, ledger: Ledger) -> np.ndarray:
        """The labels, and what the frozen teacher says of the same views, if that counts."""
        if not self.options.tuning.retention:
            return labels
        frozen = self.inputs.frozen
        with ledger.timed("retention", len(images), len(images) * self.frozen_flops):
            starts = range(0, len(images), frozen.batch_size)
            said = [head.logits(frozen(images[at : at + frozen.batch_size])) for at in starts]
            return with_labels(labels, np.concatenate(said))

    def scorer(
        self, images: LabelledImages, directory: Path, step: Callable[[], int], ledger: Ledger
    ) -> Callable[["nn.Module"], float]:
        """The rank of a module on held-out images; its logits are kept."""

        def score(module: "nn.Module") -> float:
            with ledger.timed("evaluate", len(images), len(images) * self.flops):
                logits = logits_of(self.student, images, module)
            write_logits(held_out_path(directory, step()), logits)
            return self.rank(self.judge(step(), logits, images.labels))

        return score

    def stays(self, candidates: tuple[Candidate, ...]) -> Tuned:
        """The frozen teacher was the best."""
        return Tuned(candidates, 0, self.inputs.choice.logits, skipped_steps=self.skipped)

    def tuned(
        self,
        candidates: tuple[Candidate, ...],
        chosen: int,
        held_out: dict[int, np.ndarray],
        weights: dict[str, "Tensor"],
    ) -> Tuned:
        """The chosen weights as backbone and head."""
        from transferset.models.weights import weights_sha256

        self.module.load_state_dict(weights)
        self.module.to("cpu").requires_grad_(False).eval()
        module = self.module.backbone
        backbone = replace(
            self.inputs.backbone, module=module, weights_sha256=weights_sha256(module), text=None
        )
        best = candidates[chosen]
        head = self.module.linear_head(best.temperature)
        return Tuned(candidates, chosen, held_out[best.step], backbone, head, self.skipped)

    def checkpoints(self, part: str | None) -> Path:
        """Where a training keeps its pieces."""
        directory = self.options.out / CHECKPOINTS
        return directory / part if part else directory

    def add_costs(self, ledger: Ledger) -> None:
        """Add those of one training, `student` being what the loop calls the model that learns."""
        for name, stage in ledger.stages.items():
            self.inputs.ledger.add(
                "tuning" if name == "student" else name, stage.images, stage.seconds, stage.flops
            )


def logits_of(student: Student, images: LabelledImages, module: "nn.Module | None" = None) -> np.ndarray:
    """Logits (n, C) of images as evaluation shows them, by the student or another `module` like its own."""
    batches = images.rendered(student.preprocessing)
    return np.concatenate([predict(student, module or student.module, batch) for batch in batches])
