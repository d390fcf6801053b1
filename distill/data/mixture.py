"""The list of samples of a run: a transfer set, with labelled images mixed in."""

from dataclasses import dataclass, replace

import numpy as np

from distill.data.identified import identified
from distill.data.label_shards import Unit, units_of
from distill.data.samples import Samples, join, samples_of_files
from distill.methods.dual_head import UNLABELLED
from transferset.errors import DataError
from transferset.labelled import LabelledSet


@dataclass(frozen=True, eq=False)
class Mixture:
    """`samples`: first the `transfer` images of the transfer set, then `labelled` ones, as often as their
    `repeats` says; `labels` of these, None where one has none."""

    samples: Samples
    transfer: int
    labels: tuple[str | None, ...] = ()

    @property
    def labelled(self) -> int:
        """How many labelled images there are, each counted once."""
        return len(self.labels)

    def identified(self, workers: int) -> "Mixture":
        """The same with every item id."""
        return replace(self, samples=identified(self.samples, workers))

    def units(self, views: int) -> list[Unit]:
        """What shares a file of a store with `views` views."""
        return units_of(self.samples, self.transfer, self.labelled, views)

    def class_numbers(self, classes: tuple[str, ...]) -> np.ndarray:
        """(n,) int64: which of `classes` each sample is labelled with; -1 where it has no label."""
        known = {name: number for number, name in enumerate(classes)}
        unknown = sorted({label for label in self.labels if label is not None and label not in known})
        if unknown:
            more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
            raise DataError(
                f"labels of the images to mix in: {', '.join(unknown[:3])}{more} not among the {len(classes)}"
                " classes of the teacher",
                hint=f"the teacher knows {', '.join(classes[:8])}" + (", …" if len(classes) > 8 else ""),
            )
        once = [UNLABELLED if label is None else known[label] for label in self.labels]
        numbers = np.full(len(self.samples), UNLABELLED, dtype=np.int64)
        if once:
            numbers[self.transfer :] = np.resize(once, len(self.samples) - self.transfer)
        return numbers


def mix(transfer: Samples, labelled: LabelledSet | None, share: float) -> Mixture:
    """Add the training images of `labelled` (all, without splits), each as often as it takes to make about
    `share` of the list."""
    if labelled is None or share == 0:
        return Mixture(transfer, len(transfer))
    images = labelled.split("train").images if labelled.has_splits else labelled.images
    if not images:
        return Mixture(transfer, len(transfer))
    repeat = max(1, round(share / (1 - share) * len(transfer) / len(images)))
    samples = join(transfer, samples_of_files([image.path for image in images]), repeat)
    return Mixture(samples, len(transfer), tuple(image.label for image in images))
