"""The report's plots as PNG."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.selection.background import EDGES, Background
from curate.selection.selection import Selection
from curate.transfer_set.measures import Span
from curate.transfer_set.saturation import Saturation
from transferset.plots import png, short
from transferset.report import NO_CLASS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BARS = 30
"""Up to so many classes have a bar each; more make one curve."""
_WIDTH, _HEIGHT = 5.2, 3.0
_SET, _POOL, _MARK = "#2f6db5", "#9aa0a8", "#c9651b"


def per_query(selection: Selection) -> bytes:
    """How many queries got how many images."""
    counts = np.array(selection.filled)

    def draw(axes: "Axes") -> None:
        low, high = int(counts.min()), int(counts.max())
        edges = np.linspace(low - 0.5, high + 0.5, min(high - low + 1, 30) + 1)
        axes.hist(counts, bins=edges.tolist(), color=_SET)
        quota = median(selection.quotas)
        axes.axvline(quota, color=_MARK, linewidth=1.2, label=f"quota, {quota:g}")
        axes.set(title="Images per query", xlabel="images", ylabel="queries")
        _whole_numbers(axes, "both")
        if high - low < 4:
            axes.set(xlim=(low - 2.5, high + 2.5), xticks=range(max(0, low - 2), high + 3))
        axes.legend()

    return _png(draw)


def per_class(classes: Sequence[str | None], counts: Sequence[int]) -> bytes:
    """How many images each class got; beyond `BARS` classes from the smallest to the largest."""

    def bars(axes: "Axes") -> None:
        axes.barh(range(len(counts)), counts, color=_SET, height=0.7)
        axes.set_yticks(range(len(counts)), [short(label or NO_CLASS) for label in classes], parse_math=False)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set(title="Images per class", xlabel="images")
        _whole_numbers(axes, "x")

    def curve(axes: "Axes") -> None:
        axes.stairs(sorted(counts), fill=True, color=_SET)
        axes.set(title="Images per class, sorted", xlabel="classes", ylabel="images", ylim=(0, None))
        _whole_numbers(axes, "both")

    return _png(bars, max(_HEIGHT, 0.7 + 0.19 * len(counts))) if len(counts) <= BARS else _png(curve)


def similarities(selection: Selection, background: Background | None) -> bytes:
    """Histogram of the images' similarity to their queries, with that of random images."""
    values = [pick.similarity for pick in selection.picks if pick.similarity is not None]

    def draw(axes: "Axes") -> None:
        shown = np.histogram(values, EDGES)[0] / len(values)
        ends = [min(values), max(values)]
        if background is not None and background.images:
            chance = np.array(background.histogram) / np.sum(background.histogram)
            axes.stairs(chance, EDGES, fill=True, color=_POOL, alpha=0.55, label="random images of the pool")
            ends += EDGES[np.flatnonzero(chance > 0.001)].tolist()
        axes.stairs(shown, EDGES, fill=True, color=_SET, alpha=0.8, label="this set")
        axes.set(title="Similarity to the query", xlabel="cosine", ylabel="share of the images")
        axes.set_xlim(max(-1.0, min(ends) - 0.04), min(1.0, max(ends) + 0.06))
        axes.legend()

    return _png(draw)


def closing(found: Saturation) -> bytes:
    """For every query, sorted by where it closed: its best image, its last one, and what chance gives."""
    order = np.argsort(found.last, kind="stable")[::-1]
    best, last, mean, spread = (
        values[order] for values in (found.best, found.last, found.random, found.spread)
    )
    ticks = np.arange(len(order))

    def draw(axes: "Axes") -> None:
        dot: dict[str, Any] = {"linestyle": "", "markersize": 4 if len(ticks) < 100 else 2}
        axes.plot(ticks, best, marker=".", color="#8fb6e0", label="best", **dot)
        axes.plot(ticks, last, marker=".", color=_SET, label="last", **dot)
        axes.errorbar(ticks, mean, spread, fmt="none", ecolor=_POOL, elinewidth=1, alpha=0.6)
        axes.plot(ticks, mean, marker=".", color="#6d737b", label="random (mean, ± 1 sd)", **dot)
        axes.set(title="Where each query closed", xlabel="queries, sorted", ylabel="cosine")
        _whole_numbers(axes, "x")
        axes.legend(
            ncols=3,
            markerscale=2.5,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.18),
            columnspacing=1,
            handletextpad=0,
        )

    return _png(draw, _HEIGHT + 0.2)


def spans(own: Span, pool: Span) -> bytes:
    """How much of the variance the first directions hold, of the set and of a random sample of the pool."""

    def draw(axes: "Axes") -> None:
        for span, colour, name in ((pool, _POOL, "random sample of the pool"), (own, _SET, "this set")):
            held = np.cumsum(span.spectrum)
            label = f"{name}: {span.effective_rank:g}"
            axes.plot(np.arange(1, len(held) + 1), held, color=colour, linewidth=1.8, label=label)
        axes.set(title="Variance explained by the first directions", xlabel="directions", ylabel="share")
        axes.set(xscale="log", ylim=(0, 1.03))
        axes.legend(title="effective rank", alignment="left", loc="upper left")

    return _png(draw)


def covered(curve: np.ndarray, random: float) -> bytes:
    """The mean coverage with 0, 1, … suggestions (n + 1,), and with n random ones."""

    def draw(axes: "Axes") -> None:
        count = len(curve) - 1
        axes.plot(np.arange(count + 1), curve, color=_SET, linewidth=1.8, label="suggestions")
        axes.plot([count], [random], marker="o", linestyle="", color=_MARK, label="as many random ones")
        axes.set(
            title="How well the neighbourhood is covered", xlabel="images labelled", ylabel="mean coverage"
        )
        _whole_numbers(axes, "x")
        axes.legend(loc="lower right")

    return _png(draw)


def _png(draw: "Callable[[Axes], None]", height: float = _HEIGHT) -> bytes:
    return png(draw, _WIDTH, height)


def _whole_numbers(axes: "Axes", which: str) -> None:
    from matplotlib.ticker import MaxNLocator

    for name in ("x", "y"):
        if which in (name, "both"):
            getattr(axes, f"{name}axis").set_major_locator(MaxNLocator(6, integer=True))
