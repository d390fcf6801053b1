import numpy as np
import pytest

from curate.refinement.judgement import Judgement
from curate.refinement.rule import Rule, refine_by, spread
from transferset.errors import DataError, UsageError

CLASSES = ("bar", "coast", "office")


def _judgement(rows: list[list[float]]) -> Judgement:
    p = np.array(rows, np.float32)
    entropy = -(p * np.log(np.maximum(p, 1e-9))).sum(axis=1)
    return Judgement(tuple(f"{n:032x}" for n in range(len(p))), p, entropy, CLASSES, 0, "t", "s")


SURE, FLAT, TORN = [0.98, 0.01, 0.01], [0.34, 0.33, 0.33], [0.52, 0.47, 0.01]


def test_the_undecided_among_all_leave() -> None:
    judgement = _judgement([SURE, FLAT, TORN, SURE, FLAT, SURE, SURE, SURE, SURE, SURE])
    found = refine_by(Rule(drop=0.2, uncertain_share=0), judgement, ["bar"], 100)
    assert found.dropped.tolist() == [1, 4]
    assert refine_by(Rule(drop=0), judgement, ["bar"], 100).dropped.tolist() == []


def test_the_undecided_between_two_become_queries() -> None:
    judgement = _judgement([SURE, FLAT, TORN, SURE, FLAT, [0.01, 0.5, 0.49], SURE, SURE, SURE, SURE])
    rule = Rule(drop=0.2, uncertain_share=0.1)
    found = refine_by(rule, judgement, ["bar"] * 2, 100)
    assert found.uncertain.tolist() == [5, 2], "most torn first, and not the flat ones"
    assert found.uncertain_quotas == (5, 5) and sum(found.quotas) == 90
    few = refine_by(Rule(0.2, 2.0, 0.1, uncertain_queries=1), judgement, ["bar"] * 2, 100)
    assert few.uncertain.tolist() == [5] and few.uncertain_quotas == (10,)
    none = refine_by(Rule(0.2, 2.0, 0.1, uncertain_queries=0), judgement, ["bar"] * 2, 100)
    assert len(none.uncertain) == 0 and sum(none.quotas) == 100


def test_what_the_set_lacks_gets_more() -> None:
    """Masses 1/2, 1/4, 1/4: weights 2/3, 4/3, 4/3."""
    judgement = _judgement([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    found = refine_by(Rule(drop=0, uncertain_share=0), judgement, ["bar", "coast", "office"], 50)
    assert found.mass == {"bar": 0.5, "coast": 0.25, "office": 0.25}
    assert found.weights["bar"] == pytest.approx(2 / 3, abs=1e-6)
    assert found.quotas == (10, 20, 20)


def test_a_class_that_is_missing_gets_no_more_than_the_most() -> None:
    judgement = _judgement([[1, 0, 0], [1, 0, 0], [0, 1, 0]])
    found = refine_by(Rule(drop=0, most=3.0, uncertain_share=0), judgement, list(CLASSES), 100)
    assert found.weights == {"bar": 0.5, "coast": 1.0, "office": 3.0}
    assert found.quotas == (11, 22, 67)
    even = refine_by(Rule(drop=0, most=1.0, uncertain_share=0), judgement, list(CLASSES), 99)
    assert even.quotas == (33, 33, 33)


def test_queries_without_a_class_count_as_even() -> None:
    judgement = _judgement([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    found = refine_by(Rule(drop=0, uncertain_share=0), judgement, [None, "bar"], 50)
    assert found.quotas == (30, 20)


@pytest.mark.parametrize("total", [1, 7, 100, 1001])
def test_a_total_is_spread_whole(total: int) -> None:
    shares = np.array([0.5, 1.0, 1.0, 2.0])
    quotas = spread(total, shares)
    assert sum(quotas) == total
    assert np.abs(np.array(quotas) - total * shares / shares.sum()).max() < 1


def test_what_cannot_be_asked_for() -> None:
    for values in ((1.0, 2, 0.2), (-0.1, 2, 0.2), (0.1, 0.5, 0.2), (0.1, float("nan"), 0.2), (0.1, 2, 1.0)):
        with pytest.raises(UsageError):
            Rule(*values)
    judgement = _judgement([SURE] * 4)
    with pytest.raises(DataError, match="does not know the class zoo"):
        refine_by(Rule(), judgement, ["zoo", "bar"], 100)
    with pytest.raises(UsageError, match="leaves 5 images to 9 queries"):
        refine_by(Rule(), judgement, ["bar"] * 9, 5)
