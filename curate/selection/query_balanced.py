"""Query-balanced selection: every query gets the same number of images, and no image twice.

Round-robin by rank. In each round every query with an open quota takes the best candidate of its list that
no earlier round has taken. Where several want the same one in the same round, the most similar query gets
it (then the first in query order) and the others go on down their lists: each round is the stable matching
of Gale and Shapley (1962), so the outcome depends neither on the order in which queries are visited nor on
how deep the lists were fetched.
"""

from collections.abc import Iterator

import numpy as np

from curate.selection.candidates import Candidates
from curate.selection.request import Assignment, Request

Candidate = tuple[int, int, float]  # row, rank from 1, similarity
_BLOCK = 64


def query_balanced(request: Request) -> Assignment:
    """Fill every query's quota in rounds; lists that end too early are fetched deeper and the rounds
    played again.

    With `request.topup` what a query can't fill goes to the other queries of its class, then to all.
    """
    return assign(request, request.lists)


def assign(request: Request, lists: Candidates, by_class: bool = False) -> Assignment:
    """The rounds over any candidates; with `by_class` what a query can't fill goes to its class in any
    case."""
    while True:
        game = _Rounds(lists, request.taken())
        game.play(request.quotas)
        if by_class or request.topup:
            missing = _top_up_classes(game, request)
            if request.topup:
                game.play_extra(list(range(len(request.quotas))), missing)
        hungry = sorted(query for query in game.dry if not lists.complete[query])
        if not hungry:
            return game.assignment()
        lists.deepen(hungry)


class _Rounds:
    """The state of the rounds: what is taken, how far down its list each query is, who has run dry."""

    def __init__(self, lists: Candidates, taken: bytearray) -> None:
        self.taken = taken
        self.walks = [
            _walk(rows, scores, ranks, taken)
            for rows, scores, ranks in zip(lists.rows, lists.scores, lists.ranks, strict=True)
        ]
        self.dry: set[int] = set()
        self.won: list[list[Candidate]] = [[] for _ in self.walks]

    def play(self, quotas: np.ndarray) -> None:
        """Rounds until every query holds its quota or has run dry."""
        goals = quotas.tolist()
        players = [query for query, goal in enumerate(goals) if len(self.won[query]) < goal]
        while players:
            self._round(players)
            players = [q for q in players if q not in self.dry and len(self.won[q]) < goals[q]]

    def play_extra(self, queries: list[int], amount: int) -> int:
        """Up to `amount` more images for `queries`, first to who holds fewest; how many were found."""
        left = amount
        while left > 0:
            players = [query for query in queries if query not in self.dry]
            if not players:
                break
            players.sort(key=lambda query: (len(self.won[query]), query))
            left -= self._round(players[:left])
        return amount - left

    def _round(self, players: list[int]) -> int:
        held: dict[int, tuple[float, int, int]] = {}  # row -> similarity, -query, rank
        waiting = list(players)
        while waiting:
            query = waiting.pop()
            candidate = next(self.walks[query], None)
            if candidate is None:
                self.dry.add(query)
                continue
            row, rank, score = candidate
            bid = (score, -query, rank)
            best = held.setdefault(row, bid)
            if best is bid:
                continue
            if bid > best:
                held[row] = bid
                waiting.append(-best[1])
            else:
                waiting.append(query)
        for row, (score, minus_query, rank) in held.items():
            self.taken[row] = 1
            self.won[-minus_query].append((row, rank, score))
        return len(held)

    def assignment(self) -> Assignment:
        """What was won, by query, then similarity, then rank."""
        owners = np.repeat(np.arange(len(self.won)), [len(won) for won in self.won])
        flat = [one for won in self.won for one in sorted(won, key=lambda one: (-one[2], one[1]))]
        return Assignment(
            rows=np.array([row for row, _, _ in flat], dtype=np.int64),
            queries=owners.astype(np.int64),
            ranks=np.array([rank for _, rank, _ in flat], dtype=np.int64),
            scores=np.array([score for _, _, score in flat], dtype=np.float32),
        )


def _walk(rows: np.ndarray, scores: np.ndarray, ranks: np.ndarray, taken: bytearray) -> Iterator[Candidate]:
    """The candidates of one list that are free at the time they are asked for. Long taken stretches are
    skipped by blocks, which grow."""
    flags = np.frombuffer(taken, dtype=np.uint8)
    start, size = 0, _BLOCK
    while start < len(rows):
        block = rows[start : start + size]
        free = np.flatnonzero(flags[block] == 0)
        columns = (column[start : start + size][free].tolist() for column in (rows, ranks, scores))
        for row, rank, score in zip(*columns, strict=True):
            if not taken[row]:
                yield row, rank, score
        start += size
        if len(free) == 0:
            size = min(2 * size, 1 << 16)


def _top_up_classes(game: _Rounds, request: Request) -> int:
    """Give what is missing to the other queries of the class; how many are missing still."""
    quotas = request.quotas.tolist()
    missing: dict[str | None, int] = dict.fromkeys(request.labels, 0)
    for query, label in enumerate(request.labels):
        missing[label] += quotas[query] - len(game.won[query])
    for label in missing:
        members = [query for query, own in enumerate(request.labels) if own == label]
        missing[label] -= game.play_extra(members, missing[label])
    return sum(missing.values())
