"""`distill check`: labelled splits are looked over, and what is wrong with them is shown."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.splits.checked import messages
from distill.splits.overlap import Cleaned, Overlap, cleaned
from distill.splits.page import write_page
from distill.splits.search import find_overlap
from transferset import report
from transferset.errors import UsageError
from transferset.images import MAX_PIXELS
from transferset.labelled import SPLITS, LabelledSet, load_labelled
from transferset.writes import check_file, sweep_temporaries_of

IMBALANCE = 5
FEW = 2


@dataclass(frozen=True)
class CheckOptions:
    """What `distill check` is given. `out`: an HTML page; `workers`: threads (None: all cores)."""

    data: Path
    out: Path | None = None
    max_pixels: int = MAX_PIXELS
    workers: int | None = None


@dataclass(frozen=True)
class CheckReport:
    """The result: `classes` are images by class and split (`all` without splits); `notes` say what is worth a
    word, the mistakes first; `clean`: there are none."""

    data: str
    classes: dict[str, dict[str, int]]
    notes: tuple[str, ...]
    clean: bool
    overlap: Overlap
    cleaning: Cleaned

    def to_dict(self) -> dict[str, Any]:
        """One JSON object, with every pair."""
        facts = {"data": self.data, "clean": self.clean, "classes": self.classes, "notes": list(self.notes)}
        return {**facts, **self.overlap.to_dict()}


def check(options: CheckOptions) -> CheckReport:
    """Look a labelled set over; nothing is changed, and nothing trained.

    Raises UsageError where there are no labels or `out` is no page, DataError for a set that can't be loaded.
    """
    if options.out is not None and options.out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out {options.out} does not end in .html")
    if options.out is not None:
        check_file(options.out, "--out")
    labelled = load_labelled(options.data)
    if not labelled.classes:
        raise UsageError(
            f"{options.data} has no labels",
            hint="sort the images into one folder for each class, or give a table with a label column",
        )
    overlap = find_overlap(labelled, max_pixels=options.max_pixels, workers=options.workers)
    cleaning = cleaned(overlap, near=False)
    mistakes = (*messages(overlap, cleaning, drop_near=False), *_damage(overlap), *_lacking(labelled))
    found = CheckReport(
        data=str(options.data),
        classes=_counts(labelled),
        notes=(*mistakes, *_remarks(labelled, overlap)),
        clean=not mistakes,
        overlap=overlap,
        cleaning=cleaning,
    )
    if options.out is not None:
        sweep_temporaries_of(options.out)
        write_page(options.out, overlap, cleaning, _summary(found))
    return found


def _counts(labelled: LabelledSet) -> dict[str, dict[str, int]]:
    splits = [name for name in SPLITS if name in labelled.splits] or ["all"]
    counts = Counter((image.label, image.split or "all") for image in labelled.images)
    return {name: {split: counts[name, split] for split in splits} for name in labelled.classes}


def _damage(overlap: Overlap) -> list[str]:
    if not overlap.unreadable:
        return []
    place, why = next(iter(overlap.unreadable.items()))
    count = len(overlap.unreadable)
    return [f"{count} images cannot be read; the first: {overlap.image(place).path}: {why}"]


def _lacking(labelled: LabelledSet) -> list[str]:
    """Classes that a split has and train lacks."""
    if not labelled.has_splits:
        return []
    train = set(labelled.split("train").classes)
    notes = [] if train else ["there is no train split"]
    for name in ("val", "test"):
        unknown = sorted(set(labelled.split(name).classes) - train)
        if train and unknown:
            notes.append(f"{len(unknown)} classes of {name} have no training image: {_some(unknown)}")
    return notes


def _remarks(labelled: LabelledSet, overlap: Overlap) -> list[str]:
    """What is no mistake and worth knowing."""
    notes = []
    training = labelled.split("train") if labelled.has_splits else labelled
    counts = Counter(str(image.label) for image in training.images)
    for name in ("val", "test"):
        if not labelled.has_splits:
            break
        lacks = sorted(set(training.classes) - set(labelled.split(name).classes))
        if not labelled.split(name).images:
            notes.append(f"there is no {name} split")
        elif lacks:
            notes.append(f"{name} lacks {len(lacks)} of {len(training.classes)} classes: {_some(lacks)}")
    if counts and max(counts.values()) > IMBALANCE * min(counts.values()):
        notes.append(
            f"classes are imbalanced ({min(counts.values())} to {max(counts.values())} training images): "
            "look at balanced accuracy, and at --class-weight balanced (adapt) and --class-balanced "
            "(finetune)"
        )
    few = sorted(name for name, count in counts.items() if count < FEW)
    if few:
        notes.append(f"{len(few)} classes have a single training image: {_some(few)}")
    if overlap.unchecked:
        notes.append(f"{overlap.unchecked:,} less promising suspects of near copies were not compared")
    return notes


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def _summary(found: CheckReport) -> str:
    """What stands above the pairs."""
    verdict = "No mistake was found." if found.clean else "This set has mistakes."
    parts = [f'<p class="verdict">{verdict}</p>', f'<p class="quiet">{report.text(found.data)}</p>']
    parts += [f"<p>{report.text(note)}</p>" for note in found.notes]
    splits = list(next(iter(found.classes.values())))
    rows = [
        [report.text(name), *(f"{count:,}" for count in row.values())] for name, row in found.classes.items()
    ]
    unreadable = [
        f"<li>{report.text(found.overlap.image(place).path)}: {report.text(why)}</li>"
        for place, why in list(found.overlap.unreadable.items())[:100]
    ]
    if unreadable:
        parts.append(f"<h2>Unreadable images</h2><ul>{''.join(unreadable)}</ul>")
    parts.append("<h2>Images of each class</h2>" + report.table(["class", *splits], rows))
    return "\n".join(parts)
