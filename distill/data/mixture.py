"""The list of samples of a run: a transfer set, with labelled images mixed in without their labels."""

from dataclasses import dataclass, replace

from distill.data.identified import identified
from distill.data.label_shards import Unit, units_of
from distill.data.samples import Samples, join, samples_of_files
from transferset.labelled import LabelledSet


@dataclass(frozen=True, eq=False)
class Mixture:
    """`samples`: first the `transfer` images of the transfer set, then `labelled` ones, as often as their
    `repeats` says."""

    samples: Samples
    transfer: int
    labelled: int = 0

    def identified(self, workers: int) -> "Mixture":
        """The same with every item id."""
        return replace(self, samples=identified(self.samples, workers))

    def units(self, views: int) -> list[Unit]:
        """What shares a file of a store with `views` views."""
        return units_of(self.samples, self.transfer, self.labelled, views)


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
    return Mixture(samples, len(transfer), len(images))
