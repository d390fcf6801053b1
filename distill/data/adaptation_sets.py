"""The labelled images that a teacher is adapted with."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from transferset.errors import DataError, UsageError
from transferset.labelled import LabelledSet, load_labelled


@dataclass(frozen=True)
class AdaptationSets:
    """The labelled images that adapt may look at: train, and val if there is one."""

    root: Path
    train: LabelledSet
    val: LabelledSet
    classes: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over paths within the set, sizes, labels and splits; moving the set as a whole changes
        nothing."""
        rows = []
        for image in (*self.train.images, *self.val.images):
            size = image.path.stat().st_size if image.path.exists() else -1
            rows.append([os.path.relpath(image.path, self.root), size, image.label, image.split])
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def load_adaptation_sets(data: Path, labelled: LabelledSet | None = None) -> AdaptationSets:
    """The sets of `data`, or of what is left of it, `labelled`.

    Raises UsageError where there are no labels, DataError where they cannot be learnt: no train split, a
    single class, classes that only val has."""
    labelled = load_labelled(data) if labelled is None else labelled
    if not labelled.classes:
        raise UsageError(
            f"{data} has no labels",
            hint="sort the images into one folder for each class, or give a table with a label column",
        )
    train = labelled.split("train") if labelled.has_splits else labelled
    val = labelled.split("val")
    classes = train.classes
    if not train.images:
        raise DataError(f"{data} has no train split, only {', '.join(sorted(labelled.splits))}")
    refuse_single_class(data, classes)
    unknown = sorted(set(val.classes) - set(classes))
    if unknown:
        raise DataError(
            f"{data}: no training image of class {', '.join(unknown[:5])}, which val has",
            hint="add training images, or remove the class from val",
        )
    return AdaptationSets(labelled.root, train, val, classes)


def refuse_single_class(data: Path, classes: tuple[str, ...]) -> None:
    """DataError for a training split of one class."""
    if len(classes) < 2:
        raise DataError(
            f"{data} has a single class, {classes[0]}: there is nothing to tell apart",
            hint="add a folder of images that are not it, or give the folder above",
        )
