from dataclasses import replace

import pytest

from curate.selection.background import Background
from curate.selection.selection import Pick, Selection
from curate.transfer_set.saturation import saturation_of


def _selection(best: float, last: float, random: float, quota: int = 2) -> Selection:
    picks = [
        Pick(2 * query + place, query, 1, value)
        for query in (0, 1)
        for place, value in enumerate((best, last))
    ]
    background = Background(100, (random, random), (0.1, 0.1), (0,) * 100)
    return Selection(tuple(picks), (quota, quota), background=background)


def test_far_above_chance_more_would_be_related() -> None:
    found = saturation_of(_selection(0.8, 0.6, 0.2))
    assert found is not None
    assert found.lead.tolist() == pytest.approx([2 / 3, 2 / 3])
    assert found.deviations.tolist() == pytest.approx([4, 4])
    assert found.related == 2 and found.verdict().startswith("Probably: ")
    assert "0.600" in found.verdict() and "0.200" in found.verdict() and "67%" in found.verdict()


@pytest.mark.parametrize(
    ("last", "told"), [(0.22, "Hardly"), (0.45, "Perhaps"), (0.30, "Hardly"), (0.79, "Probably")]
)
def test_near_chance_more_would_not(last: float, told: str) -> None:
    found = saturation_of(_selection(0.8, last, 0.2))
    assert found is not None and found.verdict().startswith(told)


def test_an_exhausted_pool_has_no_more() -> None:
    selection = _selection(0.8, 0.6, 0.2, quota=3)
    found = saturation_of(selection)
    assert found is not None and found.verdict().startswith("This pool has no more for 2 queries")
    floored = saturation_of(replace(selection, floored=(0, 1)))
    assert floored is not None and floored.verdict().startswith("Probably"), "the floor closed them"


def test_without_a_comparison_nothing_is_told() -> None:
    assert saturation_of(replace(_selection(0.8, 0.6, 0.2), background=None)) is None
    assert saturation_of(Selection((Pick(0, None, None, None),), (1,))) is None
