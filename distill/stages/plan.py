"""`distill plan`: what training is going to take on this machine, with an online teacher and from a store."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.data.batches import Batch, render
from distill.data.compact_logits import logit_format
from distill.data.mixture import mix
from distill.data.samples import Decoded, ImageReader, Samples
from distill.data.transfer_shards import open_transfer_shards
from distill.data.views import View, augmentation, draw_view
from distill.export.speed import machine, tell_if_busy
from distill.loop.checkpoints import Checkpoints
from distill.loop.execution import Execution, torch_threads
from distill.loop.hooks import Hooks
from distill.loop.ledger import Ledger
from distill.loop.mode import Mode
from distill.loop.mode_probe import resolve_mode
from distill.loop.plan import Plan
from distill.loop.trainer import Trainer
from distill.methods.task_oriented import TaskOriented
from distill.models.averaging import over_mirror_images
from distill.models.student import Student
from distill.stages.train_inputs import DEFAULT_EPOCHS, WEIGHTS_LR
from distill.task import CLASSIFICATION, Task
from transferset.cores import available_cores
from transferset.errors import DataError, UsageError
from transferset.labelled import load_labelled
from transferset.parallel import ordered_map

if TYPE_CHECKING:
    from distill.models.teacher import Teacher
    from transferset.models.preprocessing import Preprocessing

_SECONDS = 2.0
_SAMPLED = 128


@dataclass(frozen=True)
class PlanOptions:
    """What `distill plan` is given: a run of `train`, as it is going to be. `data`: labelled images that are
    mixed in at `labelled_share`; they are counted, not checked for copies as `train` does. `top_k` and
    `features`: of the store, as in `label`; `teacher_flip`: of both, as there. `seconds`:
    how long each stage is measured."""

    shards: tuple[str | Path, ...]
    teacher: Path
    student: str
    image_size: int | None = None
    plan: Plan = field(default_factory=Plan)
    views: int = 8
    augment: str = "standard"
    data: Path | None = None
    labelled_share: float = 0.1
    top_k: int | None = None
    features: bool = False
    teacher_flip: bool = False
    seed: int = 0
    runtime: str = "auto"
    seconds: float = _SECONDS
    execution: Execution = field(default_factory=Execution)

    def __post_init__(self) -> None:
        if self.views < 0:
            raise UsageError(f"--views {self.views} must not be negative", hint="0: new views in every epoch")
        if not 0 <= self.labelled_share < 1:
            raise UsageError(f"--labelled-share {self.labelled_share} must be at least 0 and less than 1")
        if not 0 < self.seconds < math.inf:
            raise UsageError(f"--seconds {self.seconds} must be positive and finite")


@dataclass(frozen=True)
class PlanReport:
    """The prediction. `images`: of an epoch, the labelled ones among them as often as they are repeated.
    `rates`: images per second of each stage alone on this machine (`decode` of whole images,
    the others of views); `joint_rates`: of a run whose teacher looks at every view, and of one from a store.
    `teacher_images`: views that the teacher looks at in an online run. `store_bytes`, `label_seconds`: of a
    store of `store_views` views. `online_seconds` and `stored_seconds`: of one run. `pays_from`: how many
    runs (students, seeds) it takes for the store to save time; None: it never does. `student_mode`: of the
    student's steps, chosen as such a run chooses it."""

    images: int
    steps: int
    images_seen: int
    epochs: float
    teacher_images: int
    rates: dict[str, float]
    joint_rates: dict[str, float]
    store_views: int
    store_bytes: int
    online_seconds: float
    label_seconds: float
    stored_seconds: float
    pays_from: int | None
    machine: dict[str, str | int]
    student_mode: dict[str, Any] = field(default_factory=dict)

    def seconds_for(self, runs: int) -> tuple[float, float]:
        """Of so many runs: each with an online teacher; labelling once and each from the store."""
        return runs * self.online_seconds, self.label_seconds + runs * self.stored_seconds


def plan(options: PlanOptions, task: Task = CLASSIFICATION) -> PlanReport:
    """Measure every stage for a few seconds and add up. Nothing is written.

    The stages of a run share the same cores, so an image's times add up; with the models on a GPU the slower
    of processor and GPU counts. Raises UsageError for options that don't fit, DataError for images or a
    teacher that cannot be used.
    """
    from distill.models.teacher import open_teacher

    augmentation(options.augment)
    resolved = options.execution.resolve()
    labelled = load_labelled(options.data) if options.data is not None else None
    samples = mix(open_transfer_shards(options.shards).samples, labelled, options.labelled_share).samples
    tell_if_busy()
    with torch_threads(resolved["threads"]):
        teacher = open_teacher(
            options.teacher,
            runtime=options.runtime,
            batch_size=options.plan.batch_size,
            device=resolved["device"],
            threads=resolved["threads"],
        )
        student = task.build_student(
            options.student, tuple(teacher.classes), options.image_size, options.seed
        )
        student.module.to(resolved["device"])
        recipe = options.plan.recipe(len(samples), DEFAULT_EPOCHS, WEIGHTS_LR, options.seed)
        mode = resolve_mode(None, student, recipe, options.execution)
        probe = _Probe(options, samples, teacher, student, mode)
        rates = probe.rates()
    dimension = teacher.model.dimension if options.features else 0
    decoded_bytes, classes = probe.decoded_bytes, len(teacher.classes)
    report = _predict(options, len(samples), rates, decoded_bytes, resolved, classes, dimension)
    return replace(report, student_mode=mode.to_dict())


class _Probe:
    """Each stage alone, on some of the images."""

    def __init__(
        self, options: PlanOptions, samples: Samples, teacher: "Teacher", student: Student, mode: Mode
    ) -> None:
        self.options = options
        self.mode = mode
        self.teacher = teacher
        self.student = student
        decode_size = max(teacher.preprocessing.size, student.preprocessing.size)
        rows = np.unique(np.linspace(0, len(samples) - 1, min(len(samples), _SAMPLED)).astype(np.int64))
        self.reader = ImageReader(samples.subset(rows), decode_size)
        found = [self.reader.attempt(index) for index in range(len(rows))]
        self.images = [decoded for decoded in found if decoded is not None]
        if not self.images:
            raise DataError(
                f"none of {len(rows)} images can be read: {next(iter(self.reader.dropped.items()))}"
            )
        self.decoded_bytes = float(np.mean([decoded.rgb.nbytes for decoded in self.images]))

    def rates(self) -> dict[str, float]:
        """Images per second of every stage."""
        size = self.options.plan.batch_size
        shown = self._shown(self.teacher.preprocessing, size)
        plain, classes = self.teacher.answers("logits"), len(self.teacher.classes)
        answers = over_mirror_images(plain, classes) if self.options.teacher_flip else plain
        logits = answers.ask(shown)
        return {
            "decode": self._threaded(lambda decoded: self.reader.attempt(decoded.index)),
            "teacher_views": self._threaded(self._renders(self.teacher.preprocessing)),
            "student_views": self._threaded(self._renders(self.student.preprocessing)),
            "teacher": self._rate(lambda: answers.ask(shown), size),
            "student": self._rate(self._step(logits, size), size),
        }

    def _view(self, decoded: Decoded) -> View:
        return draw_view(augmentation(self.options.augment), self.options.seed, decoded.item_id, 0)

    def _renders(self, preprocessing: "Preprocessing") -> Callable[[Decoded], object]:
        return lambda decoded: render(decoded.rgb, self._view(decoded), preprocessing)

    def _shown(self, preprocessing: "Preprocessing", size: int) -> np.ndarray:
        some = [image for image, _ in zip(cycle(self.images), range(size), strict=False)]
        return np.stack([render(decoded.rgb, self._view(decoded), preprocessing) for decoded in some])

    def _step(self, logits: np.ndarray, size: int) -> Callable[[], object]:
        images = self._shown(self.student.preprocessing, size)
        rows = np.arange(size)
        batch = Batch(0, rows, rows, rows, images, rows < 0, targets=logits)
        recipe = self.options.plan.recipe(10**9, 1, WEIGHTS_LR, self.options.seed)
        hooks = Hooks(_no_batches, TaskOriented(), log=lambda entry: None)
        trainer = Trainer(self.student, recipe, hooks, Checkpoints(Path("unused")), Ledger(), self.mode)
        return lambda: trainer.train_step(batch)

    def _threaded(self, work: Callable[[Decoded], object]) -> float:
        """The rate of `work` on all cores."""
        workers = available_cores()

        def once() -> None:
            for _ in ordered_map(work, self.images, workers=workers, window=2 * workers):
                pass

        return self._rate(once, len(self.images))

    def _rate(self, run: Callable[[], object], images: int) -> float:
        """Images per second of `run`, which handles so many, after a warm-up: of the fastest time, which
        other processes have disturbed least."""
        run()
        fastest, end = math.inf, time.perf_counter() + self.options.seconds
        while fastest == math.inf or time.perf_counter() < end:
            start = time.perf_counter()
            run()
            fastest = min(fastest, time.perf_counter() - start)
        return images / fastest


def _no_batches(step: int) -> Any:
    empty: Iterator[Batch] = iter(())
    return empty


def _predict(
    options: PlanOptions,
    images: int,
    rates: dict[str, float],
    decoded_bytes: float,
    resolved: dict[str, Any],
    classes: int,
    dimension: int = 0,
) -> PlanReport:
    """Add up: what an image costs, times how often. `dimension`: of the features that a store keeps too."""
    recipe = options.plan.recipe(images, DEFAULT_EPOCHS, WEIGHTS_LR, options.seed)
    seen, views = (
        recipe.steps * recipe.batch_size,
        options.views or math.ceil(recipe.steps * recipe.batch_size / images),
    )
    looked_at = min(seen, views * images)
    cached = min(1.0, (options.execution.cache_mb << 20) * 0.75 / (decoded_bytes * images))
    decodes = min(seen, images) + max(0, seen - images) * (1 - cached)
    on_gpu = resolved["device"] != "cpu"

    def seconds(decoded: float, teacher: float, student: float) -> float:
        """Of so many decoded images, views of the teacher, views of the student."""
        processor = (
            decoded / rates["decode"] + teacher / rates["teacher_views"] + student / rates["student_views"]
        )
        models = teacher / rates["teacher"] + student / rates["student"]
        return max(processor, models) if on_gpu else processor + models

    online, stored = seconds(decodes, looked_at, seen), seconds(decodes, 0, seen)
    labelling = seconds(images, views * images, 0)
    saved = online - stored
    layout = logit_format(classes, options.top_k)
    return PlanReport(
        images=images,
        steps=recipe.steps,
        images_seen=seen,
        epochs=seen / images,
        teacher_images=looked_at,
        rates=rates,
        joint_rates={"online": 1 / seconds(1, 1, 1), "stored": 1 / seconds(1, 0, 1)},
        store_views=views,
        store_bytes=images * (views * (layout.bytes_per_view + 2 * dimension) + 1),
        online_seconds=online,
        label_seconds=labelling,
        stored_seconds=stored,
        pays_from=math.floor(labelling / saved) + 1 if saved > 0 else None,
        machine=machine(resolved["threads"]),
    )
