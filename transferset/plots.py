"""What the reports' plots share: their look, and a figure as PNG. The same numbers and the same matplotlib
give the same bytes."""

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from transferset.console import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 150
_LOOK: dict[Any, Any] = {
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": "#333333",
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e6e8",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


def png(
    draw: "Callable[[Axes], None]", width: float, height: float, *, legend_below: int = 0, **look: Any
) -> bytes:
    """A figure of `width` x `height` inches with one pair of axes, which `draw` fills, and below them a
    legend of so many entries, if there are any; `look`: matplotlib's settings, with _ for the dot. No time
    and no version stand in the file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with _own_look({name.replace("_", ".", 1): value for name, value in look.items()}):
        figure = Figure(figsize=(width, height + 0.2 * ((legend_below + 1) // 2)), dpi=_DPI)
        FigureCanvasAgg(figure)
        draw(figure.add_subplot())
        if legend_below:
            figure.legend(loc="outside lower center", ncols=2)
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


@contextmanager
def _own_look(look: dict[Any, Any]) -> Iterator[None]:
    """matplotlib's defaults and ours, whatever the user's matplotlibrc says; theirs are back afterwards.
    Signs that the font lacks are boxes and no news."""
    import matplotlib

    logger = logging.getLogger("matplotlib")
    level = logger.level
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**_LOOK, **look})
        try:
            yield
        finally:
            logger.setLevel(level)


def short(label: str, length: int = 26) -> str:
    """A name that fits beside an axis, on one line."""
    name = one_line(label)
    return name if len(name) <= length else name[: length - 1] + "…"
