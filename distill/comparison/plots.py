"""The comparison's plots as PNG."""

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.comparison.answers import Answers, Row
from distill.comparison.costs import Cost
from distill.comparison.curves import LABELS, Curve
from distill.comparison.recipe import LABELS_ONLY, PRETRAINED, TEACHER, budget
from distill.methods.transfer import PSEUDO_LABELS, TASK_AGNOSTIC, TASK_ORIENTED
from distill.metrics import CALIBRATION_BINS
from transferset.plots import png, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMED_CLASSES = 30
_WIDTH, _HEIGHT = 5.6, 3.6
_COLOURS = {
    TASK_ORIENTED: "#2f6db5",
    TASK_AGNOSTIC: "#c9651b",
    PSEUDO_LABELS: "#3d8f5f",
    LABELS_ONLY: "#6d737b",
    PRETRAINED: "#8a63b0",
    TEACHER: "#222222",
}
_MARKERS = "os^Dv<>P*X"
_LINES = ("-", "--", "-.", ":")


def metric_name(metric: str) -> str:
    """As axes call it."""
    return {"top1": "top-1"}.get(metric, metric.replace("_", " "))


def accuracy_against_cost(rows: Sequence[Row], costs: Sequence[Cost]) -> bytes:
    """The metric of every student against the FLOPs of its cell, mean ± standard deviation over seeds; the
    teacher is a line. Where there are several label budgets, they are written beside the points."""
    markers = _set_markers(rows)
    budgets = {row.labels for row in rows}
    teachers = [row for row in rows if row.method == TEACHER]
    students = {row.name for row in rows} - {row.name for row in teachers}

    def draw(axes: "Axes") -> None:
        named: set[str] = set()
        for row, style in zip(teachers, itertools.cycle(_LINES[::-1])):
            line: dict[str, Any] = {"color": _COLOURS[TEACHER], "linewidth": 1, "linestyle": style}
            name = f"{row.name}, {budget(row.labels)}" if len(budgets) > 1 else row.name
            axes.axhline(100 * row.spread.mean, label=name, **line)
        for row, cost in zip(rows, costs, strict=True):
            if row.method == TEACHER:
                continue
            mean, flops = 100 * row.spread.mean, max(cost.flops, 1.0)
            axes.errorbar(
                [flops],
                [mean],
                [100 * (row.spread.std or 0.0)],
                fmt=markers[row.key[1]],
                color=_COLOURS[row.method],
                capsize=3,
                label=None if row.name in named else row.name,
            )
            named.add(row.name)
            if len(budgets) > 1:
                offset: dict[str, Any] = {"xytext": (6, 3), "textcoords": "offset points", "fontsize": 7}
                axes.annotate(row.labels, (flops, mean), **offset)
        axes.set(xscale="log", xlabel="FLOPs of a cell, shared stages included", ylabel=_metric(rows))
        axes.set(title="Accuracy against cost")
        _flops_ticks(axes)

    return _png(draw, entries=len(students) + len(teachers))


def _flops_ticks(axes: "Axes") -> None:
    """1, 2 and 5 of every power of ten, of several powers these alone; written as in the tables."""
    from matplotlib.ticker import LogLocator

    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if high > 100 * low else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0e}")
    axes.minorticks_off()


def learning_curves(curves: Sequence[Curve]) -> bytes:
    """The metric over sizes, mean ± standard deviation over seeds."""
    rows = [row for curve in curves for row in curve.rows]
    markers = _set_markers(rows)
    over = curves[0].over
    sizes = sorted({size for curve in curves for size in curve.sizes})
    aside = (sizes[-1] / sizes[0]) ** 0.008
    drawn: dict[tuple[str, str], int] = {}

    def draw(axes: "Axes") -> None:
        for number, curve in enumerate(curves):
            spreads, last = [row.spread for row in curve.rows], curve.rows[-1]
            look = _COLOURS[last.method], markers[last.key[1]]
            drawn[look] = drawn.get(look, -1) + 1
            axes.errorbar(
                [size * aside ** (number - (len(curves) - 1) / 2) for size in curve.sizes],
                [100 * one.mean for one in spreads],
                [100 * (one.std or 0.0) for one in spreads],
                color=look[0],
                marker=look[1],
                linestyle=_LINES[drawn[look] % len(_LINES)],
                markerfacecolor="white" if drawn[look] else None,
                capsize=3,
                label=curve.name,
            )
        axes.set(xscale="log", ylabel=_metric(rows), title=f"Learning curve over {over}")
        axes.set_xlabel("labelled training images" if over == LABELS else "images of the transfer set")
        axes.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
        axes.minorticks_off()

    return _png(draw, entries=len(curves))


def per_class(rows: Sequence[Row]) -> bytes:
    """The share of every class's test images that was told right, mean over seeds."""
    first = next(iter(rows[0].answers.values()))
    present = np.unique(first.labels)
    recalls = [np.mean([_recalls(one, present) for one in row.answers.values()], axis=0) for row in rows]
    order = np.argsort(recalls[0], kind="stable")

    def bars(axes: "Axes") -> None:
        height = 0.8 / len(rows)
        for number, (row, recall) in enumerate(zip(rows, recalls, strict=True)):
            ticks = np.arange(len(order)) + (number - (len(rows) - 1) / 2) * height
            axes.barh(ticks, 100 * recall[order], height, color=_shade(rows, number), label=row.name)
        names = [short(first.classes[present[place]]) for place in order]
        axes.set_yticks(range(len(order)), names, parse_math=False)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set(title="Every class", xlabel="right, %", xlim=(0, 100))

    def lines(axes: "Axes") -> None:
        for number, (row, recall) in enumerate(zip(rows, recalls, strict=True)):
            axes.plot(np.sort(100 * recall), color=_shade(rows, number), label=row.name)
        axes.set(title="Every class, sorted for each", xlabel="classes", ylabel="right, %", ylim=(0, 100))

    few = len(order) <= NAMED_CLASSES
    return _png(
        bars if few else lines, max(_HEIGHT, 0.8 + 0.3 * len(order)) if few else _HEIGHT, entries=len(rows)
    )


def reliability(rows: Sequence[Row]) -> bytes:
    """How often an answer of a given confidence is right, over all seeds."""

    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color="#9aa0a8", linewidth=1, linestyle="--")
        for number, row in enumerate(rows):
            confidence = np.concatenate([one.probabilities.max(axis=1) for one in row.answers.values()])
            right = np.concatenate([one.right for one in row.answers.values()])
            bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
            count = np.bincount(bins, minlength=CALIBRATION_BINS)
            there = count >= 5
            x, y = (
                np.bincount(bins, what, CALIBRATION_BINS)[there] / count[there]
                for what in (confidence, right)
            )
            error = np.abs(np.bincount(bins, confidence - right, CALIBRATION_BINS)).sum() / len(right)
            label = f"{row.name}: error {error:.3f}"
            axes.plot(x, y, marker="o", markersize=3.5, color=_shade(rows, number), label=label)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share classified correctly")
        axes.set(title="Calibration")

    return _png(draw, entries=len(rows))


def confusion(row: Row) -> bytes:
    """What each class was called, in shares of its images, over all seeds."""
    first = next(iter(row.answers.values()))
    classes = len(first.classes)
    counts = np.zeros((classes, classes))
    for one in row.answers.values():
        np.add.at(counts, (one.labels, one.probabilities.argmax(axis=1)), 1)
    present = counts.sum(axis=1) > 0
    shares = 100 * counts[present] / counts[present].sum(axis=1, keepdims=True)
    names = [short(name, 18) for name in first.classes]

    def draw(axes: "Axes") -> None:
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
        axes.grid(visible=False)
        axes.set(title=f"Confusion: {short(row.name, 50)}", xlabel="called", ylabel="class")
        if classes <= NAMED_CLASSES:
            axes.set_xticks(range(classes), names, rotation=60, ha="right", parse_math=False)
            rows = [name for name, there in zip(names, present, strict=True) if there]
            axes.set_yticks(range(len(rows)), rows, parse_math=False)
        if classes <= 12:
            for y, x in np.argwhere(shares >= 0.5):
                colour = "white" if shares[y, x] > 55 else "#333333"
                axes.text(x, y, f"{shares[y, x]:.0f}", ha="center", va="center", fontsize=8, color=colour)
        axes.figure.colorbar(image, ax=axes, label="% of the class's images")

    side = min(9.0, 3.2 + 0.24 * min(classes, NAMED_CLASSES))
    return _png(draw, side, side + 1)


def _recalls(answers: Answers, present: np.ndarray) -> np.ndarray:
    right = answers.right
    return np.array([right[answers.labels == label].mean() for label in present])


def _set_markers(rows: Sequence[Row]) -> dict[str, str]:
    names = list(dict.fromkeys(row.key[1] for row in rows))
    return {name: _MARKERS[number % len(_MARKERS)] for number, name in enumerate(names)}


def _metric(rows: Sequence[Row]) -> str:
    return metric_name(rows[0].metric) + ", %"


def _shade(rows: Sequence[Row], number: int) -> Any:
    """The method's colour, lighter for its further rows."""
    row = rows[number]
    before = sum(other.method == row.method for other in rows[:number])
    from matplotlib.colors import to_rgb

    colour = np.array(to_rgb(_COLOURS[row.method]))
    return tuple(1 - (1 - colour) * 0.55**before)


def _png(
    draw: "Callable[[Axes], None]", height: float = _HEIGHT, width: float = _WIDTH, entries: int = 0
) -> bytes:
    return png(draw, width, height, legend_below=entries, legend_fontsize=8)
