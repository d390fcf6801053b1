"""Where a student with several heads starts from: a spec, or a run whose heads it takes over."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from distill.models.joint_heads import Head
from distill.models.student import (
    MODEL,
    Student,
    classifier_parameters,
    linear_classifier,
    read_classes,
    reset_classifier,
)

if TYPE_CHECKING:
    from torch import Tensor

HEADS = "heads"


def with_heads(student: Student, heads: Sequence[Head], seed: int) -> Student:
    """The student with a last layer that has all `heads`, at random, seeded; its module is changed in place.

    Raises UsageError for a student whose classifier is not one linear layer.
    """
    linear_classifier(student)
    reset_classifier(student.module, heads[-1].stop, seed)
    return replace(student, classes=heads[0].classes, has_classifier=True)


def continued(student: Student, run: Path, heads: Sequence[Head], seed: int) -> Student:
    """The student of a finished `run` with `heads`: a head that the run has for the same classes goes on from
    there (that of the same name, if it has several), every other one starts at random, seeded."""
    import torch

    if student.has_classifier and len(heads) == 1 and student.classes == heads[0].classes:
        return student
    known = _known(student, run) if student.has_classifier else []
    student = with_heads(student, heads, seed)
    own = classifier_parameters(student)
    with torch.no_grad():
        for head in heads:
            same = [one for one in known if set(one[1]) == set(head.classes)]
            same.sort(key=lambda one: one[0] != head.name)
            if same:
                _, classes, weights = same[0]
                known.remove(same[0])
                rows = [classes.index(name) for name in head.classes]
                for name, parameter in student.module.named_parameters():
                    if name in own:
                        parameter[head.columns] = weights[name][rows].to(parameter.device)
    return student


def _known(student: Student, run: Path) -> list[tuple[str, tuple[str, ...], dict[str, "Tensor"]]]:
    """Name, classes and weights of every head of a run."""
    from distill.loop.checkpoints import read_tensors

    own = classifier_parameters(student)
    directories = sorted((run / HEADS).glob(f"*/{MODEL}")) or [run / MODEL]
    found = []
    for path in directories:
        weights = {name: tensor for name, tensor in read_tensors(path).items() if name in own}
        found.append((path.parent.name, read_classes(path.parent), weights))
    return found
