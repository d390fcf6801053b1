"""Recall of a FAISS file against exact search, and the least work that reaches a wanted one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from transferset.vectors import unit

if TYPE_CHECKING:
    from curate.index.search.searcher import Searcher

DEPTH = 100
QUERIES = 200
OVERFETCH = (1.125, 2.0, 4.0, 8.0, 16.0)
"""Candidates for each image wanted."""
_SPARE = 16
_STEP = 2**0.25
"""From one number of lists to the next that is tried."""
_SCORING = 128
"""Scoring one candidate from its stored row costs as much as looking at this many codes."""


@dataclass(frozen=True)
class Effort:
    """How hard is searched: `probes` lists are looked at (None: a flat index) and `overfetch` candidates are
    taken for each item wanted. `recall` is what that gave for `queries` rows of the pool at `depth`."""

    probes: int | None
    overfetch: float
    recall: float
    depth: int
    queries: int


def fetch_depth(k: int, overfetch: float) -> int:
    """How many candidates are taken for k items."""
    return int(np.ceil(k * overfetch)) + _SPARE


def find_effort(
    content: Any, lists: int, searcher: "Searcher", rows: Sequence[int], wanted: float
) -> Effort | None:
    """The cheapest effort whose recall@100 reaches `wanted`, or else the best there is; None without rows.

    Args:
        content: the FAISS index, with positions as ids. lists: its inverted lists, 0 if it is flat.
        rows: numbers of stored rows that serve as queries (held out from training). A row does not count as
            its own neighbour.
    """
    depth = min(DEPTH, searcher.available - 1)
    if not len(rows) or depth < 1:
        return None
    queries = unit(searcher.vectors(np.asarray(rows, np.int64)))
    exact, _ = searcher.exact(queries, depth + 1)
    truth = [_without(found, row)[:depth] for found, row in zip(exact, rows, strict=True)]
    deepest = min(searcher.ranker.numbering.total, fetch_depth(depth, OVERFETCH[-1]) + 1)
    best: tuple[tuple[bool, float], Effort] | None = None
    probes = 1
    while True:
        positions = search_content(
            content, queries, deepest, probes if lists else None, searcher.hidden_selector
        )
        candidates = [
            _without(searcher.rows_of(found), row) for found, row in zip(positions, rows, strict=True)
        ]
        for overfetch in OVERFETCH:
            fetch = fetch_depth(depth, overfetch)
            recall = _recall(truth, [one[:fetch] for one in candidates])
            cost = probes * searcher.ranker.numbering.total / lists if lists else 0.0
            value = (recall >= wanted, -(cost + _SCORING * fetch) if recall >= wanted else recall)
            if best is None or value > best[0]:
                best = value, Effort(probes if lists else None, overfetch, round(recall, 4), depth, len(rows))
            if overfetch == OVERFETCH[0] and recall >= wanted:
                return best[1]
        if not lists or probes >= lists:
            return best[1] if best else None
        probes = min(max(probes + 1, round(_STEP * probes)), lists)


def mean_recall(truth: np.ndarray, found: np.ndarray) -> float:
    """Share of the exact results (q, k) that were found (q, k), whatever their order; -1 counts as none."""
    return _recall([one[one >= 0] for one in truth], list(found))


def _recall(truth: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> float:
    shares = [np.isin(one, two).mean() for one, two in zip(truth, found, strict=True) if len(one)]
    return float(np.mean(shares)) if shares else 1.0


def _without(rows: np.ndarray, row: int) -> np.ndarray:
    return rows[(rows >= 0) & (rows != row)]


def search_content(
    content: Any, queries: np.ndarray, k: int, probes: int | None, selector: Any = None
) -> np.ndarray:
    """Positions (q, k) int64 by the codes' similarity, -1 where there are fewer."""
    import faiss

    given: dict[str, Any] = {} if selector is None else {"sel": selector}
    parameters: Any
    if probes is not None:
        parameters = faiss.SearchParametersIVF(nprobe=probes, **given)  # type: ignore[call-arg]
    else:
        parameters = faiss.SearchParameters(**given)
    return np.asarray(content.search(queries, k, params=parameters)[1])
