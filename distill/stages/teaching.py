"""Where a student's targets come from: what is common to all, and a teacher that is asked while it trains."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from distill.data.batches import Batch, BatchReader, ViewPlan
from distill.data.mixture import Mixture
from distill.data.teacher_outputs import Answers, TeacherOutputs
from distill.loop.ledger import Stage
from distill.methods.feature_term import FeatureTerm
from distill.methods.patch_matching import PatchMatch, resampled
from distill.methods.transfer import Loss, Transfer
from distill.models.averaging import over_mirror_images
from distill.models.joint_heads import Head, side_by_side
from distill.models.patch_student import patch_student
from distill.models.student import Student
from transferset.console import say
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


def heads_of(classes: tuple[str, ...], method: Transfer, dimension: int) -> tuple[Head, ...]:
    """Those that one teacher gives a student: a classifier, and beside it, where the method wants one, a
    projection to its features of this `dimension`."""
    classifier = Head(ONE, classes)
    if not method.feature_weight:
        return (classifier,)
    return side_by_side([classifier, Head(FEATURES, (), features=dimension)])


def with_features(loss: Loss, method: Transfer, classes: int, columns: int | None = None) -> Loss:
    """The loss for `heads_of` with so many classes, `loss` being that of the classifier and `columns` the
    targets that it takes (None: as many as there are classes)."""
    if not method.feature_weight:
        return loss
    return FeatureTerm(loss, classes, method.feature_weight, columns)


@dataclass(frozen=True, eq=False)
class OnlineTeaching:
    """The teacher is asked for every view, once; `flip`: also for its mirror image, and what it says of both
    is averaged (see `over_mirror_images`); `patches`: the shape of its answers where they are patches (see
    `teaching_patches`)."""

    teacher: "Teacher"
    method: Transfer
    plan: ViewPlan
    flip: bool = False
    patches: GridShape | None = None

    @property
    def heads(self) -> tuple[Head, ...]:
        return heads_of(tuple(self.teacher.classes), self.method, self.teacher.model.dimension)

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
        """Every image gets its id: what the teacher has said of one is not taken for another that has been
        put in its place."""
        return self, mixture.identified(workers)

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
        plain = self.teacher.answers(self.method.targets)
        grid, patches = self.teacher.grid, self.patches
        if grid is not None and patches is not None:

            def smaller(images: np.ndarray) -> np.ndarray:
                return resampled(plain.ask(images), grid, patches.side)

            return replace(plain, ask=smaller, width=patches.width)
        return over_mirror_images(plain, len(self.teacher.classes)) if self.flip else plain

    def loss(self, method: Transfer) -> Loss:
        if self.patches is not None:
            return PatchMatch(self.patches.summary, self.patches.channels)
        return with_features(method.loss, method, len(self.teacher.classes))

    def unreadable(self) -> Mapping[int, str]:
        return {}

    def inputs(self) -> dict[str, Any]:
        return {"teacher_sha256": self.teacher.fingerprint}

    def facts(self) -> dict[str, Any]:
        return self.teacher.facts()


def teaching_patches(teaching: OnlineTeaching, student: Student, seed: int) -> tuple[OnlineTeaching, Student]:
    """Both made ready for patches: the grid is the smaller one of teacher and student, and the student's
    outputs are shaped as the teacher's answers. Raises UsageError for a student without a grid."""
    teachers = teaching.teacher.grid
    assert teachers is not None
    own = grid_shape(student.module, student.preprocessing.size, student.spec)
    shape = replace(teachers, side=min(teachers.side, own.side))
    return replace(teaching, patches=shape), patch_student(student, shape, seed)
