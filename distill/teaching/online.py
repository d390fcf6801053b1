"""A teacher that is asked while a student trains."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.data.batches import ViewPlan
from distill.data.mixture import Mixture
from distill.data.teacher_outputs import Answers, TeacherOutputs
from distill.methods.patch_matching import PatchMatch, resampled
from distill.methods.transfer import Loss, Transfer
from distill.models.averaging import over_mirror_images
from distill.models.joint_heads import Head
from distill.models.patch_student import patch_student
from distill.models.student import Student
from transferset.console import say
from transferset.models.grid import GridShape, grid_shape
from transferset.models.preprocessing import Preprocessing

if TYPE_CHECKING:
    from distill.models.teacher import Teacher
from distill.teaching.teaching import Outputs, Teaching, heads_of, with_features


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
            say(f"note: {gigabytes:.1f} GB of the teacher's outputs are kept meanwhile; --views 0 keeps none")
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
