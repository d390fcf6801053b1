"""The teacher looks at K views of every image of a shard: each image decoded once, views packed into full
batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from distill.data.batches import render
from distill.data.compact_logits import Compact, LogitFormat, encode
from distill.data.label_shards import FEATURES, Unit
from distill.data.samples import ImageReader
from distill.data.teacher_outputs import Answers
from distill.data.views import Augmentation, draw_view
from distill.models.averaging import over_mirror_images
from transferset.errors import NumericError
from transferset.parallel import ordered_map

if TYPE_CHECKING:
    from distill.models.teacher import Teacher


@dataclass(frozen=True, eq=False)
class Labelling:
    """How images are labelled: by whom, in batches of `batch_size`, which views, kept as `layout` says;
    `workers` threads decode and render ahead. `features`: the teacher's are kept too, from the same look.
    `flip`: it looks at the mirror image of every view too (see `over_mirror_images`)."""

    teacher: "Teacher"
    batch_size: int
    augment: Augmentation
    seed: int
    layout: LogitFormat
    workers: int = 1
    features: bool = False
    flip: bool = False

    def piece(self, reader: ImageReader, unit: Unit, start: int, stop: int) -> Iterator[int | Compact]:
        """Label the rows `start` … `stop` - 1 of a unit: yields how many images are newly done, again and
        again, and at last the tensors (n, views, …), with `readable` (n,) uint8; unreadable rows are zeros.

        Batches never span two pieces, so the result depends on nothing but the images of the piece. Raises
        NumericError where the teacher's answer is not finite.
        """
        readable = np.zeros(stop - start, dtype=np.uint8)
        answers: list[np.ndarray] = []
        waiting: list[np.ndarray] = []
        ahead = 2 * max(self.workers, self.batch_size // unit.views)

        def views_of(row: int) -> np.ndarray | None:
            return self._views(reader, int(unit.rows[row]), unit.views)

        rendered = ordered_map(
            views_of,
            range(start, stop),
            workers=max(1, self.workers),
            window=max(2, ahead) if self.workers else 1,
        )
        for place, views in enumerate(rendered):
            if views is not None:
                readable[place] = 1
                waiting.append(views)
            if sum(map(len, waiting)) >= self.batch_size:
                stack = np.concatenate(waiting)
                whole = len(stack) // self.batch_size * self.batch_size
                answers += [
                    self._ask(stack[at : at + self.batch_size], unit)
                    for at in range(0, whole, self.batch_size)
                ]
                waiting = [stack[whole:]] if whole < len(stack) else []
            yield 1
        if waiting:
            answers.append(self._ask(np.concatenate(waiting), unit))
        yield self._tensors(answers, readable, unit.views)

    def _views(self, reader: ImageReader, index: int, views: int) -> np.ndarray | None:
        decoded = reader.attempt(index)
        if decoded is None:
            return None
        drawn = (draw_view(self.augment, self.seed, decoded.item_id, number) for number in range(views))
        return np.stack([render(decoded.rgb, view, self.teacher.preprocessing) for view in drawn])

    def _ask(self, batch: np.ndarray, unit: Unit) -> np.ndarray:
        answers = self.answers
        found = answers.ask(batch)
        if not np.isfinite(found).all():
            raise NumericError(
                f"the teacher's {answers.name} for images of {unit.name} are not finite",
                hint="a new --out with --precision fp32 may help; else adapt the teacher again",
            )
        return found

    @property
    def answers(self) -> Answers:
        """What the teacher is asked for."""
        plain = self.teacher.answers("logits and features" if self.features else "logits")
        return over_mirror_images(plain, self.layout.classes) if self.flip else plain

    def _tensors(self, answers: list[np.ndarray], readable: np.ndarray, views: int) -> Compact:
        found = np.concatenate(answers) if answers else np.empty((0, self.answers.width), np.float32)
        logits, features = np.split(found, [self.layout.classes], axis=1)
        compact = encode(logits, self.layout)
        if self.features:
            compact[FEATURES] = features.astype(np.float16)
        tensors: Compact = {"readable": readable}
        for name, rows in compact.items():
            tensors[name] = np.zeros((len(readable), views, *rows.shape[1:]), rows.dtype)
            tensors[name][readable.astype(bool)] = rows.reshape(-1, views, *rows.shape[1:])
        return tensors
