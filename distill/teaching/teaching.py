"""Where a student's targets come from: what is common to all."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from distill.data.batches import Batch, BatchReader, ViewPlan
from distill.data.mixture import Mixture
from distill.loop.ledger import Stage
from distill.methods.feature_term import FeatureTerm
from distill.methods.transfer import Loss, Transfer
from distill.models.joint_heads import Head, side_by_side
from transferset.models.preprocessing import Preprocessing

if TYPE_CHECKING:
    pass

DEFAULT_VIEWS, DEFAULT_AUGMENT = 8, "standard"
ONE = "teacher"  # what the head of a single teacher is called
FEATURES = "features"  # and the projection to its features


class Outputs(Protocol):
    """Fills the targets of batches. `found`: whether what was computed before a kill is still there."""

    found: bool

    @property
    def costs(self) -> dict[str, Stage]:
        """What the teacher has cost so far, by the ledger's stage."""

    def fill(self, batch: Batch) -> Batch:
        """The batch with its targets."""

    def replay(self, reader: BatchReader, steps: int) -> None:
        """Compute again what the first steps had computed."""

    def flush(self) -> None:
        """Everything that was computed is on the disk."""

    def close(self) -> None:
        """The run is over."""


class Teaching(Protocol):
    """What a run needs to know of its teacher."""

    @property
    def heads(self) -> tuple[Head, ...]:
        """The classifiers that a student gets from it, side by side."""

    @property
    def width(self) -> int:
        """Of the target, where the student is to give the same numbers as the teacher."""

    @property
    def target_width(self) -> int:
        """Columns of the targets."""

    @property
    def preprocessings(self) -> tuple[Preprocessing, ...]:
        """Of the views that the teacher wants to be shown; none where it looks at nothing."""

    @property
    def plan(self) -> ViewPlan:
        """Which views there are."""

    def decode_size(self, student: int) -> int:
        """Short side that images are decoded for, with a student's input of this size."""

    def on(self, mixture: Mixture, workers: int) -> tuple["Teaching", Mixture]:
        """The same for these images; raises where it does not know them."""

    def outputs(self, path: Path, samples: int, number: int = 0) -> Outputs:
        """The targets of a run; `path`: where it may keep what it has asked; `number`: of the images of a
        batch, those that are for this teacher."""

    def loss(self, method: Transfer) -> Loss:
        """The loss for these targets."""

    def unreadable(self) -> Mapping[int, str]:
        """Samples that were unreadable when they were labelled, and why."""

    def inputs(self) -> dict[str, Any]:
        """What a resumed run must agree with."""

    def facts(self) -> dict[str, Any]:
        """For people."""


def heads_of(classes: tuple[str, ...], method: Transfer, dimension: int) -> tuple[Head, ...]:
    """Those that one teacher gives a student: a classifier, and beside it, where the method wants one, a
    projection to its features of this `dimension`."""
    classifier = Head(ONE, classes)
    if not method.feature_weight:
        return (classifier,)
    return side_by_side([classifier, Head(FEATURES, (), features=dimension)])


def with_features(loss: Loss, method: Transfer, classes: int, columns: int | None = None) -> Loss:
    """The loss for `heads_of` with so many classes, `loss` being that of the classifier and `columns` the
    targets that it takes (None: as many as there are classes)."""
    if not method.feature_weight:
        return loss
    return FeatureTerm(loss, classes, method.feature_weight, columns)
