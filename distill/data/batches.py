"""Batches of a run: which samples and views step s consumes, rendered for every model that looks at them."""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from distill.data.order import Order
from distill.data.samples import ImageReader
from distill.data.views import Augmentation, View, draw_view, recolour, render_crop
from transferset.models.preprocessing import Preprocessing
from transferset.parallel import ordered_map


@dataclass(frozen=True)
class Batch:
    """What one step sees of b samples.

    `places` (b,) int64: index in the list of samples; `rounds` (b,) int64: which of the K repeating rounds of
    views (the epoch, where views never repeat); `indices` (b,) int64: the sample whose image it is, other
    than `places` only where a sample was unreadable. `images` (b, s, s, 3) uint8 is what the student sees.
    `fresh` (b,) bool: those that the teachers have to look at, in `teacher_images`, one (fresh.sum(), S, S,
    3) uint8 for each teacher (none where nothing is fresh). `targets` is what the method compares the
    student's outputs with: (b,) int64 labels, (b, width) float32 answers of the teacher, or None as long as
    they are not known. `numbers` (b,) int64: of the view that is shown of the image of `indices`. `others`:
    what further students see, as `images`.
    """

    step: int
    places: np.ndarray
    rounds: np.ndarray
    indices: np.ndarray
    images: np.ndarray
    fresh: np.ndarray
    teacher_images: tuple[np.ndarray, ...] = ()
    targets: np.ndarray | None = None
    numbers: np.ndarray | None = None
    others: tuple[np.ndarray, ...] = ()

    def of_student(self, number: int) -> "Batch":
        """The batch as the student with this number sees it, 0 being that of `images`."""
        return replace(self, images=self.others[number - 1], others=()) if number else self


@dataclass(frozen=True)
class ViewPlan:
    """Which views a run shows. `views` K: after K epochs the same views come again (their number is the epoch
    modulo K); 0: every epoch has new ones. `view_seed`: of the views, where it is not that of the order."""

    augment: Augmentation
    seed: int
    batch_size: int
    views: int = 0
    view_seed: int | None = None


class BatchReader:
    """The batch of any step, a pure function of samples, plan and step, for a student and, if given, teachers
    and further students.

    All render the same view of one decoded image, each at the size that its preprocessing says.
    """

    def __init__(
        self,
        reader: ImageReader,
        plan: ViewPlan,
        student: Preprocessing,
        teachers: Sequence[Preprocessing] = (),
        others: Sequence[Preprocessing] = (),
    ) -> None:
        self.reader = reader
        self.plan = plan
        self.student = student
        self.teachers = teachers
        self.others = others
        self.order = Order(len(reader.samples), plan.seed)
        self.images = 0
        self.seconds = 0.0
        self._lock = threading.Lock()

    def read(self, step: int) -> Batch:
        """Decode and render everything of the batch that step `step` (from 0) consumes; targets are left
        open."""
        start = time.perf_counter()
        plan, samples = self.plan, self.reader.samples
        epochs, places = self.order.batch(step, plan.batch_size)
        rounds = epochs % plan.views if plan.views else epochs
        seed = plan.seed if plan.view_seed is None else plan.view_seed
        fresh = np.full(len(places), bool(self.teachers))
        if plan.views:
            fresh &= epochs < plan.views
        indices, numbers = places.copy(), rounds.copy()
        images = np.empty((len(places), self.student.size, self.student.size, 3), dtype=np.uint8)
        others = [np.empty((len(places), one.size, one.size, 3), dtype=np.uint8) for one in self.others]
        seen: list[list[np.ndarray]] = [[] for _ in self.teachers]
        for row, place in enumerate(places):
            decoded = self.reader.image(int(place))
            indices[row] = decoded.index
            numbers[row] = rounds[row] * samples.repeats[decoded.index] + samples.copy[decoded.index]
            view = draw_view(plan.augment, seed, decoded.item_id, int(numbers[row]))
            images[row] = render(decoded.rgb, view, self.student)
            for shown, one in zip(others, self.others, strict=True):
                same = _renders_alike(self.student, one)
                shown[row] = images[row] if same else render(decoded.rgb, view, one)
            for looked_at, one in zip(seen if fresh[row] else [], self.teachers, strict=False):
                same = _renders_alike(self.student, one)
                looked_at.append(images[row] if same else render(decoded.rgb, view, one))
        with self._lock:
            self.images += len(places)
            self.seconds += time.perf_counter() - start
        teacher_images = tuple(map(np.stack, seen)) if fresh.any() else ()
        return Batch(
            step, places, rounds, indices, images, fresh, teacher_images, None, numbers, tuple(others)
        )

    def stream(self, start: int, stop: int, workers: int) -> Iterator[Batch]:
        """The batches of steps `start` … `stop` - 1 in order, read ahead by `workers` threads (0: none)."""
        ahead = max(1, workers)
        return ordered_map(self.read, range(start, stop), workers=ahead, window=2 * ahead if workers else 1)


def render(rgb: np.ndarray, view: View, preprocessing: Preprocessing) -> np.ndarray:
    """One view (size, size, 3) uint8 as a model wants it; without a random crop, by the model's resize and
    crop."""
    if view.crop:
        return render_crop(rgb, view, preprocessing.size, preprocessing.interpolation)
    return np.asarray(recolour(Image.fromarray(preprocessing.render(rgb)), view))


def _renders_alike(first: Preprocessing, second: Preprocessing) -> bool:
    def key(p: Preprocessing) -> tuple[object, ...]:
        return (p.size, p.resize, p.crop_pct, p.interpolation)

    return key(first) == key(second)
