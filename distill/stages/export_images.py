"""The images that an export is compared on, and those that calibrate it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill.data.samples import samples_of_files
from distill.models.student import Student
from distill.stages.export_options import ALL, ExportOptions
from transferset.errors import DataError, UsageError
from transferset.labelled import LabelledImage, LabelledSet, load_labelled


@dataclass(frozen=True)
class ExportImages:
    """Of `data`: those that are compared on (`split`), and those that calibrate."""

    split: str
    compared: tuple[LabelledImage, ...]
    calibrating: tuple[LabelledImage, ...]
    fingerprint: str


def open_images(options: ExportOptions, data: Path, student: Student) -> ExportImages:
    """Choose them; DataError for classes that the student does not know or a split that is not there,
    UsageError for int8 without labels."""
    labelled = load_labelled(data)
    unknown = sorted(set(labelled.classes) - set(student.classes))
    if unknown:
        raise DataError(
            f"{data} has classes that the model does not know: {', '.join(unknown[:8])}",
            hint=f"the model knows {', '.join(student.classes[:8])}",
        )
    if options.int8 and not labelled.classes:
        raise UsageError(
            f"--int8: {data} has no labels to measure the accuracy with",
            hint="sort the images into one folder for each class",
        )
    split = options.split or next((name for name in ("test", "val") if labelled.split(name).images), ALL)
    compared = labelled.images if split == ALL else labelled.split(split).images
    if not compared:
        raise DataError(f"{data} has no {split} split", hint="leave out --split to take what is there")
    calibrating = labelled.split("train").images or labelled.images
    order = np.random.default_rng(options.seed).permutation(len(calibrating))
    most = options.calibration_images
    if not set(calibrating).isdisjoint(compared):  # what calibrates says nothing of the accuracy
        most = min(most, max(1, len(calibrating) // 2))
    chosen = tuple(calibrating[row] for row in order[:most])
    if options.int8:
        calibrated = set(chosen)
        compared = tuple(image for image in compared if image not in calibrated) or compared
    return ExportImages(split, compared, chosen, _fingerprint(labelled))


def _fingerprint(labelled: LabelledSet) -> str:
    files = samples_of_files([image.path for image in labelled.images]).fingerprint
    labels = [[image.label, image.split] for image in labelled.images]
    return hashlib.sha256(json.dumps([files, labels]).encode()).hexdigest()
