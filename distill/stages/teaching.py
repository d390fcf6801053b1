"""Where a student's targets come from: a teacher that is asked while it trains, or a store of its outputs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from distill.data.batches import Batch, BatchReader, ViewPlan
from distill.data.label_shards import LabelShard, Unit
from distill.data.label_store import LabelStore, open_store
from distill.data.mixture import Mixture
from distill.data.stored_outputs import StoredOutputs
from distill.data.teacher_outputs import Answers, TeacherOutputs
from distill.data.views import augmentation
from distill.loop.ledger import Stage
from distill.loop.run_directory import REPORT, read_object
from distill.methods.feature_term import FeatureTerm
from distill.methods.patch_matching import PatchMatch, resampled
from distill.methods.top_k import top_k_loss
from distill.methods.transfer import Loss, Transfer
from distill.models.averaging import log_mean_probabilities
from distill.models.joint_heads import Head, side_by_side
from distill.models.patch_student import patch_student
from distill.models.student import Student
from transferset.console import say
from transferset.errors import UsageError
from transferset.models.grid import GridShape, grid_shape
from transferset.models.preprocessing import Preprocessing

if TYPE_CHECKING:
    from distill.models.teacher import Teacher

DEFAULT_VIEWS, DEFAULT_AUGMENT = 8, "standard"
ONE = "teacher"  # what the head of a single teacher is called
FEATURES = "features"  # and the projection to its features


class Outputs(Protocol):
    """Fills the targets of batches. `found`: whether what was computed before a kill is still there."""

    found: bool

    @property
    def costs(self) -> dict[str, Stage]:
        """What the teacher has cost so far, by the ledger's stage."""

    def fill(self, batch: Batch) -> Batch:
        """The batch with its targets."""

    def replay(self, reader: BatchReader, steps: int) -> None:
        """Compute again what the first steps had computed."""

    def flush(self) -> None:
        """Everything that was computed is on the disk."""

    def close(self) -> None:
        """The run is over."""


class Teaching(Protocol):
    """What a run needs to know of its teacher."""

    @property
    def heads(self) -> tuple[Head, ...]:
        """The classifiers that a student gets from it, side by side."""

    @property
    def width(self) -> int:
        """Of the target, where the student is to give the same numbers as the teacher."""

    @property
    def target_width(self) -> int:
        """Columns of the targets."""

    @property
    def preprocessings(self) -> tuple[Preprocessing, ...]:
        """Of the views that the teacher wants to be shown; none where it looks at nothing."""

    @property
    def plan(self) -> ViewPlan:
        """Which views there are."""

    def decode_size(self, student: int) -> int:
        """Short side that images are decoded for, with a student's input of this size."""

    def on(self, mixture: Mixture, workers: int) -> tuple["Teaching", Mixture]:
        """The same for these images; raises where it does not know them."""

    def outputs(self, path: Path, samples: int, number: int = 0) -> Outputs:
        """The targets of a run; `path`: where it may keep what it has asked; `number`: of the images of a
        batch, those that are for this teacher."""

    def loss(self, method: Transfer) -> Loss:
        """The loss for these targets."""

    def unreadable(self) -> Mapping[int, str]:
        """Samples that were unreadable when they were labelled, and why."""

    def inputs(self) -> dict[str, Any]:
        """What a resumed run must agree with."""

    def facts(self) -> dict[str, Any]:
        """For people."""


@dataclass(frozen=True, eq=False)
class OnlineTeaching:
    """The teacher is asked for every view, once; `flip`: also for its mirror image, and what it says of both
    is averaged; `patches`: the shape of its answers where they are patches (see `teaching_patches`)."""

    teacher: "Teacher"
    method: Transfer
    plan: ViewPlan
    flip: bool = False
    patches: GridShape | None = None

    @property
    def heads(self) -> tuple[Head, ...]:
        classifier = Head(ONE, tuple(self.teacher.classes))
        if not self.method.feature_weight:
            return (classifier,)
        return side_by_side([classifier, Head(FEATURES, (), features=self.teacher.model.dimension)])

    @property
    def width(self) -> int:
        return self._answers().width

    @property
    def target_width(self) -> int:
        return self.width

    @property
    def preprocessings(self) -> tuple[Preprocessing, ...]:
        return (self.teacher.preprocessing,)

    def decode_size(self, student: int) -> int:
        """The teacher's input; more only if the student's is larger, which would otherwise see enlarged
        pixels."""
        return max(self.teacher.preprocessing.size, student)

    def on(self, mixture: Mixture, workers: int) -> tuple[Teaching, Mixture]:
        return self, mixture

    def outputs(self, path: Path, samples: int, number: int = 0) -> Outputs:
        views = self.plan.views
        answers = self._answers()
        gigabytes = views * samples * answers.bytes_per_view / 1e9
        if gigabytes > 1:
            say(f"note: {gigabytes:.1f} GB of the teacher's answers are kept meanwhile; --views 0 keeps none")
        return TeacherOutputs(
            answers,
            path=path if views else None,
            samples=samples,
            views=views,
            number=number,
        )

    def _answers(self) -> Answers:
        beside = self.method.feature_weight > 0
        plain = self.teacher.answers("logits and features" if beside else self.method.output)
        grid, patches = self.teacher.grid, self.patches
        if grid is not None and patches is not None:

            def smaller(images: np.ndarray) -> np.ndarray:
                return resampled(plain.ask(images), grid, patches.side)

            return replace(plain, ask=smaller, width=patches.width)
        if not self.flip:
            return plain

        def of_both(images: np.ndarray) -> np.ndarray:
            return log_mean_probabilities([plain.ask(images), plain.ask(images[:, :, ::-1])], (1.0, 1.0))

        return replace(plain, ask=of_both, flops_per_image=2 * plain.flops_per_image)

    def loss(self, method: Transfer) -> Loss:
        if self.patches is not None:
            return PatchMatch(self.patches)
        if method.feature_weight:
            return FeatureTerm(method.loss, len(self.teacher.classes), method.feature_weight)
        return method.loss

    def unreadable(self) -> Mapping[int, str]:
        return {}

    def inputs(self) -> dict[str, Any]:
        return {"teacher_sha256": self.teacher.fingerprint}

    def facts(self) -> dict[str, Any]:
        from distill.models.teacher import runtime_facts

        return {"description": self.teacher.description, **runtime_facts(self.teacher.model)}


def teaching_patches(teaching: OnlineTeaching, student: Student, seed: int) -> tuple[OnlineTeaching, Student]:
    """Both made ready for patches: the grid is the smaller one of teacher and student, and the student's
    outputs are shaped as the teacher's answers. Raises UsageError for a student without a grid."""
    teachers = teaching.teacher.grid
    assert teachers is not None
    own = grid_shape(student.module, student.preprocessing.size, student.spec)
    shape = replace(teachers, side=min(teachers.side, own.side))
    return replace(teaching, patches=shape), patch_student(student, shape, seed)


@dataclass(frozen=True, eq=False)
class StoredTeaching:
    """The teacher's outputs are read from a store; `units` and `shards`: of the images at hand."""

    store: LabelStore
    plan: ViewPlan
    units: list[Unit] = field(default_factory=list)
    shards: list[LabelShard] = field(default_factory=list)

    preprocessings: tuple[Preprocessing, ...] = ()

    @property
    def heads(self) -> tuple[Head, ...]:
        return (Head(ONE, self.store.classes),)

    @property
    def width(self) -> int:
        return len(self.store.classes)

    @property
    def target_width(self) -> int:
        return self.store.layout.width

    def decode_size(self, student: int) -> int:
        """The store's, whatever the student: the same pixels that were labelled."""
        return self.store.decode_size

    def on(self, mixture: Mixture, workers: int) -> tuple[Teaching, Mixture]:
        mixture = mixture.identified(workers)
        units = mixture.units(self.plan.views)
        return StoredTeaching(self.store, self.plan, units, self.store.find(mixture.samples, units)), mixture

    def outputs(self, path: Path, samples: int, number: int = 0) -> Outputs:
        return StoredOutputs(self.store.layout, self.units, self.shards, samples)

    def loss(self, method: Transfer) -> Loss:
        return method.loss if self.store.layout.top is None else top_k_loss(method.loss)

    def unreadable(self) -> Mapping[int, str]:
        return {
            int(unit.rows[int(row)]): reason
            for unit, shard in zip(self.units, self.shards, strict=True)
            for row, reason in shard.facts.unreadable.items()
        }

    def inputs(self) -> dict[str, Any]:
        return {"teacher_sha256": self.store.teacher_sha256, "store_sha256": self.store.fingerprint}

    def facts(self) -> dict[str, Any]:
        return {**self.store.teacher, "stored": True}


def stored_teaching(path: Path, plan: ViewPlan, asked: "Asked", method: Transfer) -> StoredTeaching:
    """Open a store for a run; UsageError where it does not hold what was `asked` for."""
    store = open_store(path)
    if method.output != "logits":
        raise UsageError(
            f"--labels-from with a method that matches {method.output}: a store holds logits",
            hint="give --teacher instead, or another --method",
        )
    if asked.teacher is not None:
        fingerprint = read_object(Path(asked.teacher) / REPORT).get("fingerprint")
        if fingerprint != store.teacher_sha256:
            raise UsageError(
                f"{path} was labelled by another teacher than {asked.teacher}: SHA-256 "
                f"{store.teacher_sha256[:12]}… there, {str(fingerprint)[:12]}… now",
                hint="label again, or leave --teacher out",
            )
    if asked.augment not in (None, store.augment):
        raise UsageError(
            f"--augment {asked.augment}: {path} holds views of --augment {store.augment}",
            hint="leave it out, or label again",
        )
    views = store.views if asked.views is None else asked.views
    if not 1 <= views <= store.views:
        raise UsageError(
            f"--views {asked.views}: {path} holds {store.views} views of every image",
            hint="leave it out, give fewer, or label more",
        )
    stored = ViewPlan(augmentation(store.augment), plan.seed, plan.batch_size, views, store.seed)
    return StoredTeaching(store, stored)


@dataclass(frozen=True)
class Asked:
    """What the user has said of the teacher and its views; None: nothing."""

    teacher: Path | None
    views: int | None
    augment: str | None
