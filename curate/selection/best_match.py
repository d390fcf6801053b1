"""Best-match selection: the items most similar to any query, wherever that leaves the other queries."""

import numpy as np

from curate.selection.candidates import Candidates
from curate.selection.request import Assignment, Request


def best_match(request: Request) -> Assignment:
    """The `sum(quotas)` items with the greatest similarity to any query, each taken for that query.

    Lists are fetched deeper until none that goes on could still hold a better item than the last one chosen.
    """
    amount = int(request.quotas.sum())
    while True:
        chosen = _merge(request.lists, request.taken(), amount)
        worst = float(chosen.scores.min()) if len(chosen) >= amount else -np.inf
        open_lists = [
            query
            for query, scores in enumerate(request.lists.scores)
            if not request.lists.complete[query] and (len(scores) == 0 or scores[-1] >= worst)
        ]
        if not open_lists:
            return chosen
        request.lists.deepen(open_lists)


def _merge(lists: Candidates, taken: bytearray, amount: int) -> Assignment:
    """The best `amount` rows over all lists, ordered by query, then rank. Equal similarities go to the
    first query, and at the cut to the better rank, then the smaller row."""
    lengths = [len(rows) for rows in lists.rows]
    queries = np.repeat(np.arange(len(lists.rows)), lengths)
    rows = np.concatenate(lists.rows)
    scores = np.concatenate(lists.scores)
    ranks = np.concatenate(lists.ranks)
    free = np.frombuffer(taken, dtype=np.uint8)[rows] == 0
    queries, rows, scores, ranks = queries[free], rows[free], scores[free], ranks[free]
    best_first = np.lexsort((queries, -scores, rows))
    first = np.ones(len(rows), dtype=bool)
    first[1:] = rows[best_first][1:] != rows[best_first][:-1]
    best = best_first[first]
    best = best[np.lexsort((rows[best], ranks[best], -scores[best]))[:amount]]
    best = best[np.lexsort((ranks[best], queries[best]))]
    return Assignment(rows[best], queries[best], ranks[best], scores[best])
