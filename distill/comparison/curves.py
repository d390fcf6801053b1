"""Learning curves over label budgets and transfer-set sizes, and what they say: whether more would help."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from distill.comparison.answers import Compared, Row, compared, reference
from distill.comparison.recipe import ALL, Recipe
from distill.statistics import ONE_SEED

LABELS, POOL = "labels", "pool images"
HELPS, HURTS, OPEN = "yes", "no", "can't tell"


@dataclass(frozen=True, eq=False)
class Curve:
    """One way at several sizes: `sizes` (labelled images, or images of the transfer set, ascending) and the
    rows measured there."""

    name: str
    over: str
    sizes: tuple[float, ...]
    rows: tuple[Row, ...]

    @property
    def last_step(self) -> Compared | None:
        """The largest size against the one before it."""
        return compared(self.rows[-1], self.rows[-2]) if len(self.rows) > 1 else None


@dataclass(frozen=True)
class Answer:
    """Whether more of `over` would help: the `verdict`, the sentence, and the points (as a share) that a
    doubling brought at the end of the curve, with the 95 % interval."""

    over: str
    verdict: str
    sentence: str
    per_doubling: tuple[float, float, float] | None = None


def label_curves(rows: Sequence[Row]) -> list[Curve]:
    """A curve for whatever was trained with several label budgets."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(row.key[:3], []).append(row)
    return _curves([group for group in groups.values() if len(group) > 1], LABELS)


def set_curves(rows: Sequence[Row], recipe: Recipe) -> list[Curve]:
    """A curve for whatever was trained on several transfer sets of one series with the same labels."""
    series = {one.name: one.series for one in recipe.transfer_sets if one.series}
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        method, transfer_set, teacher, labels = row.key
        if transfer_set in series and row.set_images:
            groups.setdefault((method, str(series[transfer_set]), teacher, labels), []).append(row)
    return _curves([group for group in groups.values() if len(group) > 1], POOL)


def _curves(groups: Sequence[list[Row]], over: str) -> list[Curve]:
    found = []
    for group in groups:
        size = _label_images if over == LABELS else _set_images
        ordered = sorted(group, key=size)
        if over == LABELS:  # budgets that the data cannot fill are the same images
            ordered = list({size(row): row for row in reversed(ordered)}.values())[::-1]
        sizes = tuple(size(row) for row in ordered)
        if len(set(sizes)) == len(sizes) > 1:
            last = ordered[-1]
            name = last.name if over == LABELS else f"{last.name} ({_budget(last.labels)})"
            found.append(Curve(name, over, sizes, tuple(ordered)))
    return found


def _budget(labels: str) -> str:
    return "all labels" if labels == ALL else f"{labels} labels per class"


def _label_images(row: Row) -> float:
    counts = [one.work.label_images for one in row.outcomes.values() if one.work is not None]
    return sum(counts) / len(counts)


def _set_images(row: Row) -> float:
    return row.set_images or 0.0


def answers(rows: Sequence[Row], recipe: Recipe) -> list[Answer]:
    """Whether more labels, and whether more pool images, would help what is compared with the others."""
    ours = next((row for labels in reversed(recipe.labels) if (row := reference(rows, recipe, labels))), None)
    labels = [curve for curve in label_curves(rows) if ours and curve.rows[-1].key[:3] == ours.key[:3]]
    sets = [curve for curve in set_curves(rows, recipe) if ours and ours in curve.rows]
    return [
        _answer(LABELS, labels, "give the recipe several label budgets, such as labels: [5, 10]"),
        _answer(POOL, sets, "give it transfer sets of several sizes with the same series"),
    ]


def _answer(over: str, curves: Sequence[Curve], advice: str) -> Answer:
    if not curves:
        return Answer(over, OPEN, f"Would more {over} help? Can't tell from one size: {advice}.")
    curve = curves[0]
    step, (before, after) = curve.last_step, curve.sizes[-2:]
    if step is None:
        return Answer(
            over, OPEN, f"Would more {over} help? Can't tell: the two largest have no seed in common."
        )
    doublings = math.log2(after / before)
    gap = step.difference
    slope = (gap.mean / doublings, gap.low / doublings, gap.high / doublings)
    points = f"{100 * slope[0]:+.1f} points per doubling [{100 * slope[1]:+.1f}, {100 * slope[2]:+.1f}]"
    what = f"from {before:,.0f} to {after:,.0f} {over}, {curve.name} changed by {points}"
    what += "" if gap.knows_runs else f" ({ONE_SEED})"
    if gap.above:
        return Answer(over, HELPS, f"More {over} would probably help: {what}.", slope)
    if gap.below:
        return Answer(over, HURTS, f"More {over} would probably not help: {what}.", slope)
    return Answer(over, OPEN, f"Would more {over} help? Can't tell: {what}, which is within noise.", slope)
