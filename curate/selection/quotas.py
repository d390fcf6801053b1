"""How many images each query may take: a pure function of the counts and the seed."""

import hashlib

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
                f"--total {total} with --include-queries leaves no neighbour to each of {n_queries} queries",
                hint=f"the queries themselves count; the smallest --total is {2 * n_queries}",
            )
        return [each - 1] * n_queries
    quotas = [each] * n_queries
    for query in sorted(range(n_queries), key=lambda query: _draw(seed, query))[:rest]:
        quotas[query] += 1
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
