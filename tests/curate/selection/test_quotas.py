import pytest

from curate.selection.quotas import plan_quotas
from transferset.errors import UsageError

PAPER = [
    (1200, 127, 152_400),
    (2401, 63, 151_263),
    (4802, 31, 148_862),
    (9605, 15, 144_075),
    (19210, 7, 134_470),
]


@pytest.mark.parametrize(("queries", "each", "retrieved"), PAPER)
def test_the_papers_released_sets(queries: int, each: int, retrieved: int) -> None:
    quotas = plan_quotas(queries, total=153_680, include_queries=True)
    assert set(quotas) == {each}
    assert sum(quotas) == retrieved
    assert sum(quotas) + queries <= 153_680


def test_a_total_is_spread_evenly_and_the_rest_goes_to_a_seeded_few() -> None:
    quotas = plan_quotas(200, total=1_030, seed=3)
    assert sum(quotas) == 1_030
    assert sorted(set(quotas)) == [5, 6]
    assert quotas == plan_quotas(200, total=1_030, seed=3)
    assert quotas != plan_quotas(200, total=1_030, seed=4)


def test_the_queries_with_one_more_grow_with_the_total() -> None:
    smaller, larger = plan_quotas(50, total=120), plan_quotas(50, total=121)
    assert sum(b - a for a, b in zip(smaller, larger, strict=True)) == 1
    assert all(b >= a for a, b in zip(smaller, larger, strict=True))


def test_a_total_below_the_number_of_queries_leaves_some_without() -> None:
    assert sorted(plan_quotas(5, total=2)) == [0, 0, 0, 1, 1]


def test_per_query_is_every_querys_quota_with_or_without_the_queries() -> None:
    assert plan_quotas(3, per_query=7) == [7, 7, 7]
    assert plan_quotas(3, per_query=7, include_queries=True) == [7, 7, 7]


def test_no_neighbour_left_names_the_smallest_total() -> None:
    with pytest.raises(UsageError) as caught:
        plan_quotas(100, total=199, include_queries=True)
    assert "200" in (caught.value.hint or "")
    assert plan_quotas(100, total=200, include_queries=True) == [1] * 100


@pytest.mark.parametrize("amounts", [{}, {"total": 5, "per_query": 1}, {"total": 0}, {"per_query": -1}])
def test_amounts_that_make_no_sense(amounts: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        plan_quotas(2, **amounts)
