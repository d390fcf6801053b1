"""Several heads over one student: neighbouring rows of its last layer, which is one linear layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from distill.models.student import Student, classifier_parameters

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Head:
    """A classifier called `name` for `classes`, or a projection to `features` of a teacher, whose outputs
    begin at column `start`."""

    name: str
    classes: tuple[str, ...]
    start: int = 0
    features: int = 0

    @property
    def stop(self) -> int:
        """The column behind its last one."""
        return self.start + len(self.classes) + self.features

    @property
    def columns(self) -> slice:
        """Its part of the outputs."""
        return slice(self.start, self.stop)


def side_by_side(heads: Sequence[Head]) -> tuple[Head, ...]:
    """The same heads, each beginning where the one before ends."""
    placed: list[Head] = []
    for head in heads:
        placed.append(replace(head, start=placed[-1].stop if placed else 0))
    return tuple(placed)


def classifiers(heads: Sequence[Head]) -> tuple[Head, ...]:
    """Those that know classes."""
    return tuple(head for head in heads if head.classes)


def parameters(student: Student, heads: Sequence[Head]) -> int:
    """How many the student has once it is left with the first of its heads."""
    every = {name: parameter.numel() for name, parameter in student.module.named_parameters()}
    total = sum(every.values())
    if len(heads) == 1:
        return total
    own = sum(every[name] for name in classifier_parameters(student))
    return total - own + own * len(heads[0].classes) // heads[-1].stop


def only_head(student: Student, weights: Mapping[str, "Tensor"], head: Head) -> dict[str, "Tensor"]:
    """`weights` of the student, whose last layer has all heads, with this head alone."""
    own = classifier_parameters(student)
    return {name: tensor[head.columns].clone() if name in own else tensor for name, tensor in weights.items()}
