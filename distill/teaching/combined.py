"""Several teachers of one student: their probabilities averaged, or a head of the student for each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from distill.data.batches import Batch, BatchReader, ViewPlan
from distill.data.mixture import Mixture
from distill.loop.ledger import Stage
from distill.methods.joint import Joint
from distill.methods.transfer import Loss, Transfer
from distill.models.averaging import log_mean_probabilities
from distill.models.joint_heads import Head, side_by_side
from distill.teaching.stored import StoredTeaching
from distill.teaching.teaching import Outputs, Teaching
from transferset.errors import UsageError
from transferset.models.preprocessing import Preprocessing

AVERAGE, HEADS = "average", "heads"
COMBINE = (AVERAGE, HEADS)


@dataclass(frozen=True, eq=False)
class CombinedTeaching:
    """`members` called `names`, in their order; `weights`: what each counts. Use `combined`, which checks
    that they fit each other."""

    members: tuple[Teaching, ...]
    names: tuple[str, ...]
    combine: str
    weights: tuple[float, ...]

    @property
    def heads(self) -> tuple[Head, ...]:
        if self.combine == AVERAGE:
            return self.members[0].heads
        named = zip(self.names, self.members, strict=True)
        return side_by_side([Head(name, member.heads[0].classes) for name, member in named])

    @property
    def width(self) -> int:
        return self.heads[-1].stop

    @property
    def target_width(self) -> int:
        if self.combine == AVERAGE:
            return self.members[0].target_width
        return sum(member.target_width for member in self.members)

    @property
    def preprocessings(self) -> tuple[Preprocessing, ...]:
        return tuple(one for member in self.members for one in member.preprocessings)

    @property
    def plan(self) -> ViewPlan:
        return self.members[0].plan

    def decode_size(self, student: int) -> int:
        """The largest that any of them asks for."""
        return max(member.decode_size(student) for member in self.members)

    def on(self, mixture: Mixture, workers: int) -> tuple[Teaching, Mixture]:
        members: list[Teaching] = []
        for member in self.members:
            member, mixture = member.on(mixture, workers)
            members.append(member)
        return replace(self, members=tuple(members)), mixture

    def outputs(self, path: Path, samples: int, number: int = 0) -> Outputs:
        members = tuple(
            member.outputs(path.with_stem(f"{path.stem}-{place}"), samples, number + place)
            for place, member in enumerate(self.members)
        )
        together = self._average if self.combine == AVERAGE else _side_by_side
        return CombinedOutputs(members, self.names, together)

    def _average(self, answers: Sequence[np.ndarray]) -> np.ndarray:
        """Of all members, in the order of the first one's classes."""
        first = self.members[0].heads[0].classes
        same_order = [
            answer[:, [member.heads[0].classes.index(name) for name in first]]
            for answer, member in zip(answers, self.members, strict=True)
        ]
        return log_mean_probabilities(same_order, self.weights)

    def loss(self, method: Transfer) -> Loss:
        if self.combine == AVERAGE:
            return method.loss
        losses = tuple(member.loss(method) for member in self.members)
        widths = tuple(len(head.classes) for head in self.heads)
        targets = tuple(member.target_width for member in self.members)
        return Joint(losses, widths, targets, self.weights)

    def unreadable(self) -> Mapping[int, str]:
        found: dict[int, str] = {}
        for member in self.members:
            found.update(member.unreadable())
        return found

    def inputs(self) -> dict[str, Any]:
        each = [member.inputs() for member in self.members]
        return {name: [one[name] for one in each] for name in each[0]}

    def facts(self) -> dict[str, Any]:
        each = [member.facts() for member in self.members]
        listed = {name: [one.get(name) for one in each] for name in ("runtime", "precision")}
        descriptions = "; ".join(str(one.get("description")) for one in each)
        return {"description": descriptions, **listed, "each": dict(zip(self.names, each, strict=True))}


class CombinedOutputs:
    """Asks all `members` about a batch, and puts their answers `together`."""

    def __init__(
        self,
        members: Sequence[Outputs],
        names: Sequence[str],
        together: Callable[[Sequence[np.ndarray]], np.ndarray],
    ) -> None:
        self._members = members
        self._names = names
        self._together = together
        self.found = all(member.found for member in members)

    @property
    def costs(self) -> dict[str, Stage]:
        """Of each by its name: `teacher NAME`."""
        return {
            f"{stage} {name}": spent
            for name, member in zip(self._names, self._members, strict=True)
            for stage, spent in member.costs.items()
        }

    def fill(self, batch: Batch) -> Batch:
        """The batch with the combined targets."""
        answers = [member.fill(batch).targets for member in self._members]
        targets = self._together([answer for answer in answers if answer is not None])
        return replace(batch, targets=targets, teacher_images=())

    def replay(self, reader: BatchReader, steps: int) -> None:
        """Those whose file was lost compute it again."""
        for member in self._members:
            if not member.found:
                member.replay(reader, steps)

    def flush(self) -> None:
        """Everything that was computed is on the disk."""
        for member in self._members:
            member.flush()

    def close(self) -> None:
        """The run is over."""
        for member in self._members:
            member.close()


def combined(
    members: Sequence[Teaching], names: Sequence[str], combine: str, weights: Sequence[float]
) -> CombinedTeaching:
    """The teachers together; UsageError where they do not fit each other."""
    first = members[0]
    for name, member in zip(names[1:], members[1:], strict=True):
        other_pixels = _stored(member) and member.decode_size(1) != first.decode_size(1)
        if member.plan != first.plan or other_pixels:
            raise UsageError(
                f"--labels-from: {name} holds other views than {names[0]}",
                hint="label with the same --views, --augment, --seed and --decode-size",
            )
        if combine == AVERAGE:
            _check_same_classes((names[0], first), (name, member))
    for name, member in zip(names, members, strict=True):
        if combine == AVERAGE and member.target_width != len(member.heads[0].classes):
            raise UsageError(
                f"--combine {AVERAGE} needs the probability of every class; {name} holds the largest only",
                hint=f"label with a larger --top-k, or --combine {HEADS}",
            )
    return CombinedTeaching(tuple(members), tuple(names), combine, tuple(weights))


def distinct_names(paths: Sequence[Path]) -> tuple[str, ...]:
    """The folders' names, each with its number in front where two are the same."""
    names = [path.resolve().name for path in paths]
    if len(set(names)) == len(names):
        return tuple(names)
    return tuple(f"{number}-{name}" for number, name in enumerate(names))


def _stored(member: Teaching) -> bool:
    return isinstance(member, StoredTeaching)


def _check_same_classes(first: tuple[str, Teaching], other: tuple[str, Teaching]) -> None:
    (name, one), (other_name, another) = first, other
    here, there = set(one.heads[0].classes), set(another.heads[0].classes)
    if here != there:
        only = [*sorted(here - there), *sorted(there - here)]
        raise UsageError(
            f"--combine {AVERAGE}: {name} and {other_name} know other classes: {', '.join(only[:4])} only one"
            " of them does",
            hint=f"--combine {HEADS} gives the student a head for each teacher",
        )


def _side_by_side(answers: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(answers, axis=1)
