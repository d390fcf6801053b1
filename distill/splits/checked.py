"""What adapt, train, label and finetune call before they learn from labelled images."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.loop.run_directory import read_object
from distill.splits.overlap import Cleaned, Overlap, Pair, cleaned
from distill.splits.page import write_page
from distill.splits.search import LARGEST, find_overlap
from transferset.console import say, visible
from transferset.images import MAX_PIXELS
from transferset.labelled import LabelledSet
from transferset.writes import write_json

OVERLAP, PAGE = "overlap.json", "overlap.html"


@dataclass(frozen=True)
class CheckedSet:
    """A labelled set that was looked over: `labelled`, what may be learnt from and scored on, what was found
    and what was left out."""

    overlap: Overlap
    cleaning: Cleaned

    @property
    def labelled(self) -> LabelledSet:
        """The images that are used."""
        return self.cleaning.labelled

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the bytes of the images that are learnt from or chosen by, wherever they lie."""
        digest = hashlib.sha256()
        for split, ids in self._item_ids().items():
            digest.update(f"{split}\0{' '.join(ids)}\0".encode())
        return digest.hexdigest()

    def record(self, out: Path, start: Path | None = None) -> None:
        """Write overlap.json, with the item ids of what is learnt from, also by the run `start` that is gone
        on from, and where there is something to see overlap.html."""
        if (out / OVERLAP).exists():
            return
        if self.overlap.pairs:
            write_page(out / PAGE, self.overlap, self.cleaning)
        write_json(out / OVERLAP, {**self.to_dict(), **_of_start(start)})

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        images = self.overlap.labelled.images
        dropped = [
            {
                "path": str(images[pair.second].path),
                "copy_of": str(images[pair.first].path),
                "kind": pair.kind,
            }
            for pair in self.cleaning.dropped
        ]
        return {**self.overlap.to_dict(), "dropped": dropped, "item_ids": self._item_ids()}

    def _item_ids(self) -> dict[str, list[str]]:
        """Of what is used, by split; unreadable images have none."""
        gone = {pair.second for pair in self.cleaning.dropped}
        ids: dict[str, list[str]] = {"train": [], "val": []}
        for place, (image, identity) in enumerate(zip(self.overlap.labelled.images, self.overlap.ids)):
            split = image.split or "train"
            if identity is not None and split in ids and place not in gone:
                ids[split].append(identity)
        return ids


def record_start(out: Path, start: Path) -> None:
    """Write overlap.json of a run that learns from no labels itself, but goes on from `start`, which may
    have."""
    if not (out / OVERLAP).exists():
        write_json(out / OVERLAP, _of_start(start))


def _of_start(start: Path | None) -> dict[str, list[str]]:
    before = None if start is None else learnt_ids(start)
    return {"start_item_ids": sorted(before or ())}


def learnt_ids(run: Path) -> set[str] | None:
    """Item ids of the labelled images that a run, or one that it has gone on from, has learnt from or was
    chosen by; None: it had none."""
    if not (run / OVERLAP).is_file():
        return None
    found = read_object(run / OVERLAP)
    ids = {identity for part in found.get("item_ids", {}).values() for identity in part}
    return ids | set(found.get("start_item_ids", ()))


def check_splits(
    labelled: LabelledSet, *, drop_near: bool, max_pixels: int = MAX_PIXELS, workers: int | None = None
) -> CheckedSet:
    """Look a labelled set over, say on stderr what is wrong with it, and leave copies out.

    Exact copies go from train (see `cleaned`): they are certain, and a score on an image that was learnt is
    none. Near ones are told, and go only with `drop_near`: series of shots of one thing look like copies, and
    a published split must stay what others have trained on unless one decides otherwise.
    """
    overlap = find_overlap(labelled, max_pixels=max_pixels, workers=workers)
    cleaning = cleaned(overlap, drop_near)
    for message in messages(overlap, cleaning, drop_near):
        say(message)
    return CheckedSet(overlap, cleaning)


def messages(overlap: Overlap, cleaning: Cleaned, drop_near: bool) -> list[str]:
    """What was found, a line for each kind of mistake."""
    found = []
    exact, near = overlap.across(overlap.exact), overlap.across(overlap.near)
    gone = {pair.second for pair in cleaning.dropped}
    if exact:
        out = sum(pair.second in gone or pair.first in gone for pair in exact)
        found.append(
            f"copies of images in another split: {len(exact)} ({_between(overlap, exact)});"
            f" training leaves {out} out"
        )
    repeated = [pair for pair in overlap.within(overlap.exact) if pair.second in gone]
    if repeated:
        found.append(
            f"repeats within a class: {len(repeated)} ({_first(overlap, repeated[0])}); each counts once"
        )
    if near:
        what = "left out" if drop_near else "kept (--drop-near-copies leaves them out)"
        found.append(
            f"images that look like one in another split: {len(near)} ({_between(overlap, near)}); {what}"
        )
    conflicts = overlap.conflicts()
    if conflicts:
        labels = f"{overlap.image(conflicts[0].first).label} and {overlap.image(conflicts[0].second).label}"
        found.append(
            f"images under two labels: {len(conflicts)} ({visible(labels)}: {_first(overlap, conflicts[0])})"
        )
    if cleaning.kept_for_class:
        found.append(
            f"warning: training images that are also test images, and stay because their classes have no"
            f" others: {len(cleaning.kept_for_class)}; test scores will be too high"
        )
    if not overlap.near_searched:
        found.append(f"near copies are searched in sets of up to {LARGEST:,} images, not in this one")
    if overlap.labelled.warning is not None:
        found.append(overlap.labelled.warning)
    return found


def _between(overlap: Overlap, pairs: list[Pair]) -> str:
    counts: dict[str, int] = {}
    for pair in pairs:
        key = f"{overlap.image(pair.second).split} and {overlap.image(pair.first).split}"
        counts[key] = counts.get(key, 0) + 1
    text = ", ".join(f"{count} in {key}" for key, count in counts.items())
    return f"{text}; the first: {_first(overlap, pairs[0])}"


def _first(overlap: Overlap, pair: Pair) -> str:
    root = overlap.labelled.root
    paths = [overlap.image(place).path for place in (pair.second, pair.first)]
    names = [path.relative_to(root) if path.is_relative_to(root) else path for path in paths]
    return visible(f"{names[0]} = {names[1]}")
