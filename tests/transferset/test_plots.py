"""Plots: the same bytes each time, and the user's matplotlib left as it was."""

from typing import TYPE_CHECKING

import numpy as np

from transferset.images import decode
from transferset.plots import png, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def _line(axes: "Axes") -> None:
    axes.plot([0, 1], [1, 3], label="rising")
    axes.plot([0, 1], [3, 1], label="falling")


def test_the_same_numbers_give_the_same_bytes_of_the_asked_size() -> None:
    plain = png(_line, 4, 2)
    assert plain == png(_line, 4, 2)
    assert decode(plain).shape == (300, 600, 3)


def test_a_legend_below_adds_its_height() -> None:
    assert decode(png(_line, 4, 2, legend_below=2)).shape == (330, 600, 3)


def test_the_users_settings_stay() -> None:
    import matplotlib

    with matplotlib.rc_context({"font.size": 31.0, "axes.grid": False}):
        wild = png(_line, 4, 2)
        assert matplotlib.rcParams["font.size"] == 31.0
    assert wild == png(_line, 4, 2)
    assert not np.array_equal(decode(wild), decode(png(_line, 4, 2, font_size=20)))


def test_long_names_are_cut_and_stay_on_one_line() -> None:
    assert short("corridor") == "corridor"
    assert short("a" * 30, 10) == "a" * 9 + "…"
    assert "\n" not in short("two\nlines")
