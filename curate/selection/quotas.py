"""How many images each query may take: a pure function of the counts and the seed."""

import hashlib
from collections.abc import Sequence

from transferset.errors import UsageError


def plan_quotas(
    n_queries: int,
    *,
    total: int | None = None,
    per_query: int | None = None,
    include_queries: bool = False,
    seed: int = 0,
) -> list[int]:
    """The number of images to retrieve for each of `n_queries` queries (length `n_queries`).

    Exactly one of `total` and `per_query` is given. `per_query` is every query's quota. `total` is spread
    evenly: the first `total mod n_queries` queries of a seeded permutation get one more. With
    `include_queries` the queries are written too and `total` counts them: each gets floor(total /
    n_queries) - 1 neighbours, which is how the released sets of Vemulapalli et al. (ICML 2024) were sized.
    UsageError where that leaves a query without a neighbour.
    """
    if n_queries < 1:
        raise ValueError(f"n_queries must be at least 1, got {n_queries}")
    check_amount(total, per_query)
    if per_query is not None:
        return [per_query] * n_queries
    assert total is not None
    each, rest = divmod(total, n_queries)
    if include_queries:
        if each < 2:
            raise UsageError(
                f"--total {total} with --include-queries leaves no neighbour for each of {n_queries} queries",
                hint=f"the queries themselves count; the smallest --total is {2 * n_queries}",
            )
        return [each - 1] * n_queries
    quotas = [each] * n_queries
    for query in _first(n_queries, rest, seed):
        quotas[query] += 1
    return quotas


def _first(count: int, amount: int, seed: int) -> list[int]:
    """The first `amount` of a seeded permutation of 0 … count-1."""
    return sorted(range(count), key=lambda number: _draw(seed, number))[:amount]


def plan_class_quotas(
    labels: Sequence[str | None],
    *,
    total: int | None = None,
    per_query: int | None = None,
    include_queries: bool = False,
    seed: int = 0,
) -> list[int]:
    """The number of images to retrieve for each query so that every class gets the same number, one more or
    less: `total`, or `per_query` for each query in all, spread evenly over the classes, then in each class
    over its queries.

    With `include_queries` each class's own queries count as images of it. UsageError where a class has more
    queries than images.
    """
    check_amount(total, per_query)
    classes = list(dict.fromkeys(labels))
    amount = total if total is not None else (per_query or 0) * len(labels)
    extra = include_queries and total is not None
    each, rest = divmod(amount, len(classes))
    shares = dict.fromkeys(classes, each)
    for number in _first(len(classes), 0 if extra else rest, seed):
        shares[classes[number]] += 1
    quotas = [0] * len(labels)
    for label in classes:
        members = [query for query, own in enumerate(labels) if own == label]
        share = shares[label] - (len(members) if extra else 0)
        if extra and share < 1:
            raise UsageError(
                f"--total {total} with --include-queries leaves no neighbour for a class of "
                f"{len(members)} queries",
                hint="the queries themselves count; give a larger --total",
            )
        own_each, own_rest = divmod(share, len(members))
        lucky = set(_first(len(members), own_rest, seed))
        for place, query in enumerate(members):
            quotas[query] = own_each + (place in lucky)
    return quotas


def check_amount(total: int | None, per_query: int | None) -> None:
    """UsageError unless exactly one of the two is given, and is at least 1."""
    if (total is None) == (per_query is None):
        given = "neither" if total is None else "both"
        raise UsageError(f"{given} of --total and --per-query given", hint="give exactly one of them")
    name, amount = ("--total", total) if total is not None else ("--per-query", per_query)
    if amount is not None and amount < 1:
        raise UsageError(f"{name} must be at least 1, got {amount}")


def _draw(seed: int, query: int) -> bytes:
    return hashlib.sha256(f"quota {seed} {query}".encode("ascii")).digest()
