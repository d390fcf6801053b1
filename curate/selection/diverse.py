"""Diverse selection: each query takes images that are like it and unlike each other.

Each query's nearest candidates are put in the order of maximal marginal relevance (Carbonell and Goldstein,
SIGIR 1998) and then assigned in rounds as in query-balanced selection, so quotas fill and no image is taken
twice. That retrieved sets gain from diversity among candidates is what COBRA (Das et al., 2024) reports, with
a submodular objective over the whole set; this greedy order needs the vectors of one query at a time only.
"""

import numpy as np

from curate.selection.candidates import CandidateLists
from curate.selection.query_balanced import assign
from curate.selection.request import Assignment, Request, nearest
from transferset.vectors import unit

WINDOW = 4_096
"""At most so many candidates of a query are ordered; further ones follow by similarity."""
_ORDERED_WITHIN = 2
"""So many candidates are ordered for each image that a query may take: others may take some of them."""
_DECIMALS = 5


def diverse(request: Request) -> Assignment:
    """Fill every query's quota in rounds, from candidates in the order of marginal relevance."""
    return assign(request, request.lists_of(DiverseCandidates))


class DiverseCandidates:
    """The nearest items of every query (`ranks` and `scores` are theirs), of which those at the start are
    ordered by (1 - diversity) · similarity to the query - diversity · largest similarity to an earlier one.

    What is ordered is what was fetched at first, so that deeper lists only add to the end.
    """

    def __init__(self, request: Request) -> None:
        self._nearest: CandidateLists = nearest(request)
        self._request = request
        self._orders = [self._order(query) for query in range(len(self._nearest))]
        self._read()

    @property
    def ranks(self) -> list[np.ndarray]:
        """The places of the items in the query's ranking by similarity."""
        return self._ranks

    def deepen(self, queries: list[int]) -> None:
        """Fetch more for these queries."""
        self._nearest.deepen(queries)
        self._read()

    def _read(self) -> None:
        lists = self._nearest
        self.complete, self.floored = lists.complete, lists.floored
        orders = [
            np.concatenate([order, np.arange(len(order), len(rows))])
            for order, rows in zip(self._orders, lists.rows, strict=True)
        ]
        self.rows = [rows[order] for rows, order in zip(lists.rows, orders, strict=True)]
        self.scores = [scores[order] for scores, order in zip(lists.scores, orders, strict=True)]
        self._ranks = [order + 1 for order in orders]

    def _order(self, query: int) -> np.ndarray:
        rows = self._nearest.rows[query][:WINDOW]
        scores = self._nearest.scores[query][:WINDOW]
        weight, quota = self._request.options.diversity, int(self._request.quotas[query])
        amount = min(len(rows), _ORDERED_WITHIN * quota)
        if weight == 0 or amount == 0:
            return np.arange(len(rows))
        positions = self._request.numbering.positions(rows)
        vectors = unit(self._request.index.vectors(positions))
        return marginal_relevance(vectors, scores, weight, amount)


def marginal_relevance(
    vectors: np.ndarray, relevance: np.ndarray, diversity: float, amount: int
) -> np.ndarray:
    """An order (n,) of candidates with unit vectors (n, d) and relevance (n,): `amount` by greedy maximal
    marginal relevance, then the rest as they come. Equal ones, to 1e-5, keep the order in which they came."""
    gain = (1 - diversity) * relevance.astype(np.float64)
    closest = np.full(len(vectors), -1.0)
    left = np.ones(len(vectors), dtype=bool)
    chosen = []
    for step in range(amount):
        penalty = diversity * closest if step else 0.0
        value = np.where(left, np.round(gain - penalty, _DECIMALS), -np.inf)
        best = int(value.argmax())
        left[best] = False
        chosen.append(best)
        np.maximum(closest, vectors @ vectors[best], out=closest)
    return np.concatenate([np.array(chosen, dtype=np.int64), np.flatnonzero(left)])
