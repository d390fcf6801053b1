"""The labelled images of one label budget and seed: drawn from train, with all of val and test."""

import hashlib
import os
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.comparison.recipe import ALL, budget
from transferset.console import say
from transferset.errors import DataError
from transferset.labelled import LabelledImage, LabelledSet, load_labelled
from transferset.writes import write_parquet


@dataclass(frozen=True)
class Drawn:
    """A table of labelled images that was written, what is in it (`sha256` of names, labels and splits,
    wherever the images lie) and how many of them are for training."""

    table: Path
    sha256: str
    images: int


def load_task(path: Path) -> LabelledSet:
    """The labelled set of a task; DataError where a comparison lacks labels or a split."""
    labelled = load_labelled(path)
    if not labelled.classes:
        raise DataError(f"{path} has no labels", hint="sort the images into one folder for each class")
    lacking = [split for split in ("train", "val", "test") if not labelled.split(split).images]
    if lacking:
        raise DataError(
            f"{path} has no {' and no '.join(lacking)} split",
            hint="a comparison draws labels from train, chooses on val and measures on test",
        )
    return labelled


def draw_labels(task: LabelledSet, labels: str, seed: int, table: Path) -> Drawn:
    """Write a table with `labels` (or `all`) training images of every class, drawn by `seed`, and all of val
    and test. A smaller draw of the same seed is part of a larger one; a class with fewer images gives all.

    The images are sorted by path, then shuffled by Python's `random.Random(seed)`, class by class.
    """
    chosen: list[LabelledImage] = []
    for name in task.split("train").classes:
        images = [image for image in task.split("train").images if image.label == name]
        if labels != ALL:
            random.Random(seed).shuffle(images)
            images = images[: int(labels)]
        chosen += sorted(images, key=lambda image: os.fsencode(image.path))
    kept = (*chosen, *task.split("val").images, *task.split("test").images)
    digest = hashlib.sha256()
    for image in kept:
        name = os.path.relpath(image.path, task.root)
        digest.update(f"{name}\0{image.label}\0{image.split}\0".encode("utf-8", "surrogateescape"))
    _write(table, kept)
    return Drawn(table, digest.hexdigest(), len(chosen))


def count_drawn(task: LabelledSet, labels: str) -> int:
    """How many training images `draw_labels` takes."""
    counts = _class_counts(task)
    return sum(counts if labels == ALL else (min(int(labels), count) for count in counts))


def tell_short(task: LabelledSet, budgets: Sequence[str]) -> None:
    """Say which label budgets are larger than some classes, and what they come to."""
    counts = _class_counts(task)
    for labels in (one for one in budgets if one != ALL):
        short = sum(count < int(labels) for count in counts)
        if short:
            say(
                f"note: {budget(labels)}: {short} of {len(counts)} classes have fewer training images and "
                f"give all they have, {count_drawn(task, labels):,} labels in total"
            )


def _class_counts(task: LabelledSet) -> list[int]:
    return list(Counter(image.label for image in task.split("train").images).values())


def _write(table: Path, images: tuple[LabelledImage, ...]) -> None:
    import pyarrow as pa

    paths = [str(image.path.absolute()) for image in images]
    try:
        columns = {
            "image": pa.array(paths, pa.string()),
            "label": pa.array([image.label for image in images], pa.string()),
            "split": pa.array([image.split for image in images], pa.string()),
        }
    except UnicodeEncodeError as error:
        raise DataError(f"a file name is not UTF-8: {error.object!r}", hint="rename the file") from error
    write_parquet(table, pa.table(columns))
