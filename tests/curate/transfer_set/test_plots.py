import io
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from curate.selection.background import Background
from curate.selection.selection import Pick, Selection
from curate.transfer_set import plots
from curate.transfer_set.measures import Span
from curate.transfer_set.saturation import saturation_of


def _selection(queries: int = 6, each: int = 3) -> Selection:
    rng = np.random.default_rng(0)
    picks = [
        Pick(query * each + place, query, place + 1, round(float(value), 5))
        for query in range(queries)
        for place, value in enumerate(sorted(rng.uniform(0.3, 0.9, each), reverse=True))
    ]
    histogram = np.bincount(rng.normal(60, 4, 1000).astype(int).clip(0, 99), minlength=100)
    background = Background(1000, (0.2,) * queries, (0.08,) * queries, tuple(histogram.tolist()))
    return Selection(tuple(picks), (each,) * queries, background=background)


def _closing() -> bytes:
    found = saturation_of(_selection())
    assert found is not None
    return plots.closing(found)


DRAWN: dict[str, Callable[[], bytes]] = {
    "per query": lambda: plots.per_query(_selection()),
    "per class": lambda: plots.per_class(["a", None, "b\n\x1b[31m", "$\\frac{1$"], [3, 0, 2, 7]),
    "similarities": lambda: plots.similarities(_selection(), _selection().background),
    "closing": _closing,
    "spans": lambda: plots.spans(Span(9, 3.0, np.array([0.5, 0.3, 0.2])), Span(9, 1.0, np.ones(1))),
    "covered": lambda: plots.covered(np.array([0.2, 0.3, 0.35]), 0.25),
}


@pytest.mark.parametrize("name", DRAWN)
def test_the_same_numbers_give_the_same_bytes_whatever_the_users_settings(name: str) -> None:
    import matplotlib

    first = DRAWN[name]()
    with matplotlib.rc_context({"font.size": 31, "axes.facecolor": "black", "figure.figsize": (1, 1)}):
        mine = dict(matplotlib.rcParams)
        assert DRAWN[name]() == first
        assert dict(matplotlib.rcParams) == mine, "and leave them alone"
    with Image.open(io.BytesIO(first)) as image:
        assert image.format == "PNG" and image.width == 780 and image.height >= 450
        assert not image.info.keys() & {"Software", "Creation Time"}


def test_many_classes_make_one_curve_of_bounded_size() -> None:
    many = [f"class {number}" for number in range(2000)]
    drawn = plots.per_class(many, list(range(2000)))
    with Image.open(io.BytesIO(drawn)) as image:
        assert image.size == (780, 450)


def test_numbers_that_are_all_the_same_can_be_drawn() -> None:
    one = Selection((Pick(0, 0, 1, 1.0),), (1,), background=Background(0, (0.0,), (0.0,), (0,) * 100))
    found = saturation_of(one)
    assert found is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for drawn in (plots.per_query(one), plots.similarities(one, one.background), plots.closing(found)):
            assert drawn.startswith(b"\x89PNG")
        assert plots.covered(np.array([0.5, 0.5]), 0.5) and plots.per_class(["漢字"], [0])
