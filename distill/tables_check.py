"""The result of `distill check` as tables on stdout."""

from typing import TYPE_CHECKING

from transferset.console import print_table

if TYPE_CHECKING:
    from distill.stages.check import CheckReport

_MOST = 20


def print_check(report: "CheckReport") -> None:
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
    print_table("images of each class", ["class", *splits], classes)
