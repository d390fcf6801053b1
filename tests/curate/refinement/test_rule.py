import numpy as np
import pytest

from curate.refinement.judgement import Judgement
from curate.refinement.rule import Rule, refine_by, spread
from transferset.errors import DataError, UsageError

CLASSES = ("bar", "coast", "office")


def _judgement(
    rows: list[list[float]], on_task: list[float] | None = None, random: list[float] | None = None
) -> Judgement:
    p = np.array(rows, np.float32)
    entropy = -(p * np.log(np.maximum(p, 1e-9))).sum(axis=1)
    scores, compared = (None if one is None else np.array(one, np.float32) for one in (on_task, random))
    ids = tuple(f"{n:032x}" for n in range(len(p)))
    return Judgement(ids, p, entropy, CLASSES, 0, "t", "s", scores, compared)


SURE, FLAT, TORN = [0.98, 0.01, 0.01], [0.34, 0.33, 0.33], [0.52, 0.47, 0.01]


def _dropped(rule: Rule, judgement: Judgement) -> list[int]:
    rows: list[int] = refine_by(rule, judgement, ["bar"], 100).dropped.tolist()
    return rows


def test_what_looks_less_on_task_than_most_random_images_leaves() -> None:
    """Whatever its probabilities: an undecided image stays if it looks like the task, a sure one that does
    not goes."""
    random = [1.0, 2.0, 3.0, 4.0, 9.0]
    judgement = _judgement([SURE, FLAT, TORN, SURE, FLAT], [2.9, 8.0, 3.1, 7.0, 1.5], random)
    assert _dropped(Rule(), judgement) == [0, 4], "the median of the random ones is 3"
    assert _dropped(Rule(off_task=0.25), judgement) == [4]
    assert _dropped(Rule(off_task=1.0), _judgement([SURE, FLAT], [9.5, 8.5], random)) == [1]


def test_where_nothing_is_off_task_nothing_leaves() -> None:
    on_task = _judgement([SURE, FLAT, TORN, SURE], [5.0, 6.0, 7.0, 8.0], [1.0, 2.0, 3.0])
    assert _dropped(Rule(), on_task) == []
    assert _dropped(Rule(), _judgement([SURE, FLAT, TORN, SURE])) == [], "a table without the scores"
    assert _dropped(Rule(), _judgement([SURE, FLAT], [1.0, 2.0])) == [], "nor random ones to compare with"


def test_a_share_to_drop_is_that_of_the_least_on_task() -> None:
    """In a table that does not say, of the most undecided."""
    rows = [SURE, FLAT, TORN, SURE, FLAT, SURE, SURE, SURE, SURE, SURE]
    assert _dropped(Rule(drop=0.2, uncertain_share=0), _judgement(rows)) == [1, 4]
    scores = [5.0, 6, 1, 7, 8, 9, 2, 3, 4, 10]
    assert _dropped(Rule(drop=0.2), _judgement(rows, scores, [20.0] * 3)) == [2, 6]
    assert _dropped(Rule(drop=0), _judgement(rows, scores, [20.0] * 3)) == []


def test_where_everything_is_off_task_there_is_nothing_to_refine() -> None:
    with pytest.raises(DataError, match="all 2 images look less on task than 50% of random ones"):
        refine_by(Rule(), _judgement([SURE, FLAT], [1.0, 2.0], [3.0]), ["bar"], 100)


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
    for off_task in (-0.1, 1.1, float("nan")):
        with pytest.raises(UsageError, match="--off-task is a share"):
            Rule(off_task=off_task)
    judgement = _judgement([SURE] * 4)
    with pytest.raises(DataError, match="does not know the class zoo"):
        refine_by(Rule(), judgement, ["zoo", "bar"], 100)
    with pytest.raises(UsageError, match="leaves 5 images to 9 queries"):
        refine_by(Rule(), judgement, ["bar"] * 9, 5)


def test_no_query_is_left_without_an_image() -> None:
    """A class that the teacher finds everywhere has little to get."""
    judgement = _judgement([SURE] * 4)
    labels = [judgement.classes[0]] * 5 + [judgement.classes[1]] * 5
    with pytest.raises(UsageError, match="queries: some get none"):
        refine_by(Rule(most=4, uncertain_share=0), judgement, labels, 12)
    assert min(refine_by(Rule(most=4, uncertain_share=0), judgement, labels, 100).quotas) >= 1
