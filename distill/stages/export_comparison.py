"""Exported models compared with the run, on real images, before they are kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distill.data.rendered import Rendering
from distill.export.format import INT8, ONNX
from distill.export.onnx_resize import rendered_by_pillow
from distill.export.parity import (
    PILLOW,
    REFERENCE,
    Answers,
    ask_all,
    check_drop,
    check_same,
    compare,
    joined,
    parts_of,
)
from distill.models.student import MODEL, Student
from distill.stages.export_images import ExportImages
from distill.stages.export_options import RESIZE, ExportOptions
from distill.task import SCORE_NAMES, Task

PARTS = 200
"""Images of which parts are shown to a graph that resizes."""

Model = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Comparison:
    """How models of `student` are compared, and scored by `metric`.

    A graph that resizes must answer as the run does on pixels that Pillow has resized, of the same decoded
    image. The run's own pixels are others: torch, which resizes them, rounds otherwise (of 2,000 images
    through an EfficientNet-Lite0 that moved logits by up to 0.33, where graph and run on Pillow's pixels were
    0.02 apart), and a JPEG at least twice as large as wanted is decoded at a reduced scale. Reported is the
    difference to the run's own answers, with that to Pillow beside it.
    """

    options: ExportOptions
    task: Task
    student: Student
    images: ExportImages
    metric: str

    def parities(self, models: Mapping[str, Model]) -> dict[str, Any]:
        """Of each model and the run, by name, as JSON; NumericError where one differs too much."""
        options, resizes = self.options, self.options.preprocessing == RESIZE
        paths = [image.path for image in self.images.compared]
        given = {REFERENCE if name == MODEL else name: model for name, model in models.items()}
        names, judge = tuple(given), REFERENCE
        if resizes:
            judge = PILLOW
            run, given = {REFERENCE: given.pop(REFERENCE)}, {**given, PILLOW: self.run_on_pillow}
            self.check_parts(given, paths)
            own = ask_all(run, paths, self.rendering(False), "ask the run")
            answers = joined(own, ask_all(given, paths, self.rendering(True), "compare"))
        else:
            answers = ask_all(given, paths, self.rendering(False), "compare")
        labels, score = self.labels(answers), self.task.scores[self.metric]
        found = {}
        for name in names:
            parity = compare(answers, name, labels, score, 0.0 if name == INT8 else options.allowed)
            found[name] = {**asdict(parity), "drop": parity.drop}
            if name == INT8:
                check_drop(parity, name, options.max_drop, SCORE_NAMES[self.metric])
            elif name == ONNX:
                judged = compare(answers, name, labels, score, options.allowed, judge)
                check_same(judged, name, options.allowed, judge)
                if resizes:
                    found[name]["to_pillow"] = asdict(judged)
        return found

    def rendering(self, whole: bool) -> Rendering:
        """How images are read: rendered, or `whole`."""
        options, workers = self.options, self.options.execution.readers
        return Rendering(self.student.preprocessing, options.batch_size, workers, options.max_pixels, whole)

    def run_on_pillow(self, images: np.ndarray) -> np.ndarray:
        """The run's logits of decoded images that Pillow resizes."""
        preprocessing = self.student.preprocessing
        return self.student.logits(np.stack([rendered_by_pillow(preprocessing, image) for image in images]))

    def check_parts(self, models: Mapping[str, Model], paths: Sequence[Path]) -> None:
        """NumericError where the graph differs on parts of images: where all have one size, they say nothing
        of other sizes."""
        given, allowed = {name: models[name] for name in (PILLOW, ONNX)}, self.options.allowed
        what = "compare parts of images"
        answers = ask_all(given, paths[:PARTS], self.rendering(True), what, parts_of)
        parity = compare(answers, ONNX, None, self.task.scores[self.metric], allowed, PILLOW)
        check_same(parity, f"{ONNX}, shown parts of images,", allowed, PILLOW)

    def labels(self, answers: Answers) -> np.ndarray | None:
        """Class numbers of the images that were answered; None where they have no labels."""
        numbers = {name: number for number, name in enumerate(self.student.classes)}
        labels = [self.images.compared[place].label for place in answers.places]
        if None in labels:
            return None
        return np.array([numbers[str(label)] for label in labels], dtype=np.int64)

    def calibration_images(self) -> np.ndarray:
        """Rendered images, (n, size, size, 3) uint8."""
        paths = [image.path for image in self.images.calibrating]
        answers = ask_all({REFERENCE: lambda batch: batch}, paths, self.rendering(False), "read")
        return answers.logits[REFERENCE]
