"""The command `distill check`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill import options
from transferset.console import print_json, print_table
from transferset.label_lists import with_image_root

if TYPE_CHECKING:
    from distill.stages.check import CheckReport

_MOST = 20

CheckPage = Annotated[
    Path | None, typer.Option("--out", dir_okay=False, help="Write a report page of what was found (.html).")
]


def check(
    data: options.Labelled,
    image_root: options.ImageRoot = None,
    out: CheckPage = None,
    max_pixels: options.MaxPixels = options.MAX_PIXELS,
    workers: options.Workers = None,
    as_json: options.AsJson = False,
) -> None:
    """Check labelled splits for copies and other mistakes.

    Finds copies between and within splits, conflicting labels, missing classes and damaged files. The exit
    code is 0 even if there are mistakes; --json has the verdict (clean).
    """
    from distill.stages.check import CheckOptions
    from distill.stages.check import check as run

    report = run(CheckOptions(with_image_root(data, image_root), out, max_pixels, workers))
    print_json(report.to_dict()) if as_json else _print_check(report)


def _print_check(report: "CheckReport") -> None:
    """What is wrong, then the pairs, then the images of every class."""
    notes = [[note] for note in report.notes] or [["no copies, no damage, every class in every split"]]
    print_table(f"{report.data}: {'clean' if report.clean else 'mistakes'}", [""], notes)
    overlap, rows = report.overlap, []
    for pair in overlap.pairs[:_MOST]:
        one, other = overlap.image(pair.first), overlap.image(pair.second)
        agreement = "" if pair.agreement is None else f"{pair.agreement:.2f}"
        rows.append([pair.kind, agreement, str(one.label), str(one.path), str(other.label), str(other.path)])
    if rows:
        more = f", the first {_MOST} of {len(overlap.pairs):,}" if len(overlap.pairs) > _MOST else ""
        columns = ["copy", "agreement", "label", "image", "label", "image"]
        print_table(f"pairs{more}", columns, rows)
    splits = list(next(iter(report.classes.values())))
    classes = [
        [name, *(f"{count:,}" for count in counts.values())] for name, counts in report.classes.items()
    ]
    print_table("images per class", ["class", *splits], classes)
