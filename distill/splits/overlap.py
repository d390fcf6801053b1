"""What the look at a labelled set has found, and the set without it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from transferset.labelled import SPLITS, LabelledImage, LabelledSet

BYTES, PIXELS, NEAR = "bytes", "pixels", "near"
_ORDER = {"test": 0, "val": 1}


@dataclass(frozen=True)
class Pair:
    """Two images, by place in the set; `first` is the one that stays where one has to go (test before val
    before train). `kind`: the same `bytes`, the same `pixels`, or `near` by `agreement` (see
    `transferset.alignment`)."""

    first: int
    second: int
    kind: str
    agreement: float | None = None


def lies_across(labelled: LabelledSet, pair: Pair) -> bool:
    """Whether its images are in two splits."""
    return labelled.images[pair.first].split != labelled.images[pair.second].split


@dataclass(frozen=True)
class Overlap:
    """Exact and near copies in a labelled set.

    `exact`: one pair for every repeat of an image, with its first appearance; `near`: confirmed on pixels.
    `unreadable`: why, by place. `suspects` were laid over each other, `unchecked` suspects were not;
    `near_searched`: False where the set was too large for it. `ids`: item ids, hex, None where unreadable.
    """

    labelled: LabelledSet
    exact: tuple[Pair, ...]
    near: tuple[Pair, ...]
    unreadable: dict[int, str]
    ids: tuple[str | None, ...]
    suspects: int = 0
    unchecked: int = 0
    near_searched: bool = True

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """All of them, exact ones first."""
        return (*self.exact, *self.near)

    def image(self, place: int) -> LabelledImage:
        """The image at a place."""
        return self.labelled.images[place]

    def across(self, pairs: Iterable[Pair]) -> list[Pair]:
        """Those between two splits."""
        return [one for one in pairs if lies_across(self.labelled, one)]

    def within(self, pairs: Iterable[Pair]) -> list[Pair]:
        """Those within a split, or a set that has none."""
        return [one for one in pairs if not lies_across(self.labelled, one)]

    def conflicts(self) -> list[Pair]:
        """Those with two labels."""
        return [one for one in self.pairs if self.image(one.first).label != self.image(one.second).label]

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""

        def plain(pair: Pair) -> dict[str, Any]:
            one, other = self.image(pair.first), self.image(pair.second)
            return {
                "first": str(one.path),
                "second": str(other.path),
                "splits": [one.split, other.split],
                "labels": [one.label, other.label],
                "kind": pair.kind,
                "agreement": pair.agreement,
            }

        return {
            "images": split_counts(self.labelled),
            "exact": [plain(pair) for pair in self.exact],
            "near": [plain(pair) for pair in self.near],
            "label_conflicts": [plain(pair) for pair in self.conflicts()],
            "unreadable": {str(self.image(place).path): why for place, why in self.unreadable.items()},
            "suspects": self.suspects,
            "unchecked_suspects": self.unchecked,
            "near_searched": self.near_searched,
        }


@dataclass(frozen=True)
class Cleaned:
    """A set without copies: `labelled`; the pairs `dropped`, each with the copy that stayed; and
    `kept_for_class`: copies that stayed because a class would have had no training image left."""

    labelled: LabelledSet
    dropped: tuple[Pair, ...]
    kept_for_class: tuple[Pair, ...]


def split_counts(labelled: LabelledSet) -> dict[str, int]:
    """Images of each split; `all` of a set without."""
    counts = Counter(image.split or "all" for image in labelled.images)
    return {name: counts[name] for name in (*SPLITS, "all") if counts[name]}


def ordered(labelled: LabelledSet, places: Iterable[int]) -> list[int]:
    """Copies of one image, the one that stays first: test before val before train."""
    return sorted(places, key=lambda place: (_ORDER.get(labelled.images[place].split or "", 2), place))


def cleaned(overlap: Overlap, near: bool) -> Cleaned:
    """The set without training images that are copies of test or val images, without val images that are
    copies of test images, and with every image of a class once; `near` ones too, if asked for.

    Test is never touched. A class keeps its training images where it would lose all: then val loses its
    copies of them. Within train, near copies stay unless there are no splits (folds would hold out one of
    them), and an image under two labels stays under both.
    """
    images = overlap.labelled.images
    wanted = [pair for pair in overlap.exact if _goes(overlap, pair)]
    wanted += [pair for pair in overlap.near if near and _goes(overlap, pair)]
    gone = {pair.second: pair for pair in reversed(wanted)}
    training = [place for place, one in enumerate(images) if one.split in (None, "train")]
    saved = {images[place].label for place in training} - {
        images[place].label for place in training if place not in gone
    }
    kept: list[Pair] = []
    for place, pair in list(gone.items()):
        one = images[place]
        if one.split == "train" and one.label in saved and images[pair.first].split != "train":
            kept.append(gone.pop(place))
    for pair in kept:
        if images[pair.first].split == "val":
            gone[pair.first] = replace(pair, first=pair.second, second=pair.first)
    remaining = tuple(one for place, one in enumerate(images) if place not in gone)
    dropped = tuple(gone[place] for place in sorted(gone))
    still = tuple(pair for pair in kept if images[pair.first].split == "test")
    return Cleaned(LabelledSet(overlap.labelled.root, remaining), dropped, still)


def _goes(overlap: Overlap, pair: Pair) -> bool:
    """Whether the second of two copies is to be left out."""
    one, other = overlap.image(pair.first), overlap.image(pair.second)
    if other.split == "test":
        return False
    if one.split != other.split:
        return True
    alike = one.label == other.label
    return alike and (pair.kind != NEAR or other.split is None) and other.split != "val"
