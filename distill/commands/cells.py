"""Numbers as cells of a table."""

from collections.abc import Sequence


def percent(share: float | None, interval: Sequence[float] | None = None) -> str:
    """A share in percent, with its interval where it has one."""
    if share is None:
        return "–"
    text = f"{100 * share:.1f} %"
    return f"{text} ({100 * interval[0]:.1f}–{100 * interval[1]:.1f})" if interval else text
