from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from curate.selection.class_balanced import class_balanced
from curate.selection.query_balanced import query_balanced
from curate.selection.quotas import plan_class_quotas, plan_quotas
from curate.selection.request import Request
from transferset.errors import UsageError

Make = Callable[..., Any]
LABELS = ("many",) * 6 + ("few",) * 2 + ("one",)


def test_classes_share_evenly_and_their_queries_share_that() -> None:
    assert plan_class_quotas(LABELS, total=36) == [2] * 6 + [6] * 2 + [12]
    quotas = plan_class_quotas(LABELS, total=38, seed=1)
    sums = [sum(quotas[:6]), sum(quotas[6:8]), quotas[8]]
    assert sum(sums) == 38 and sorted(sums) == [12, 13, 13]
    assert max(quotas[:6]) - min(quotas[:6]) <= 1
    assert plan_class_quotas(LABELS, per_query=4) == plan_class_quotas(LABELS, total=36)


def test_a_class_may_have_more_queries_than_images() -> None:
    quotas = plan_class_quotas(LABELS, total=9)
    assert [sum(quotas[:6]), sum(quotas[6:8]), quotas[8]] == [3, 3, 3]


def test_queries_that_are_written_count_for_their_class() -> None:
    quotas = plan_class_quotas(LABELS, total=30, include_queries=True)
    assert [sum(quotas[:6]), sum(quotas[6:8]), quotas[8]] == [10 - 6, 10 - 2, 10 - 1]
    with pytest.raises(UsageError, match="a class of 6 queries"):
        plan_class_quotas(LABELS, total=18, include_queries=True)


def test_one_unnamed_class_is_query_balanced(array_index: Make) -> None:
    assert plan_class_quotas((None,) * 7, total=30, seed=2) == plan_quotas(7, total=30, seed=2)
    rng = np.random.default_rng(0)
    index = array_index(rng.normal(size=(300, 6)))
    vectors = index.stored[:7] + np.float32(0.05)
    quotas = np.array(plan_quotas(7, total=30))
    answers = [
        strategy(Request(index, vectors, (None,) * 7, quotas, None, False, 0, np.array([], dtype=int)))
        for strategy in (class_balanced, query_balanced)
    ]
    assert answers[0].rows.tolist() == answers[1].rows.tolist()


def test_what_a_query_cant_fill_goes_to_its_class_and_no_further(array_index: Make) -> None:
    near_a, near_b = [[1, 0.01 * n] for n in range(6)], [[-1, 0.01 * n] for n in range(6)]
    index = array_index(np.array(near_a + near_b))
    vectors = np.array([[1, 0], [0, -1], [-1, 0]], dtype=np.float32)
    request = Request(
        index, vectors, ("a", "a", "b"), np.array([2, 2, 9]), 0.5, False, 0, np.array([], dtype=int)
    )
    chosen = class_balanced(request)
    assert np.bincount(chosen.queries, minlength=3).tolist() == [4, 0, 6], "the floor stops the second query"
