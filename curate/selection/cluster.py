"""Cluster selection: from the clusters of the pool in which the queries lie, images drawn at random.

Made for tiny query sets: the nearest images of five queries look like these five, a draw from their clusters
shows what the class may look like too. Method: the cluster-based retrieval of DINOv2's data curation (Oquab
et al., TMLR 2024, appendix A), which takes M images from the cluster of each query where the query set is
small. Here a cluster that is too small, or emptied by other queries, is followed by the query's next
nearest one.
"""

import threading
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from curate.index.numbering import Numbering
from curate.selection.query_balanced import assign
from curate.selection.request import Assignment, Request
from curate.selection.stored import stored_keys
from transferset.progress import progress
from transferset.vectors import unit

if TYPE_CHECKING:
    from curate.index.index import Index

MOST_CLUSTERS = 4_096
"""The clusters of a row are numbered in two bytes, and a larger pool has larger ones."""
_SAMPLES_A_CLUSTER = 32
_ITERATIONS = 20
_SEED = 0
_BLOCK = 4_096
_OVERDRAW = 2


def cluster(request: Request) -> Assignment:
    """Fill every query's quota in rounds, from a seeded draw of its nearest clusters."""
    return assign(request, request.lists_of(ClusterCandidates))


@dataclass(frozen=True)
class Clusters:
    """Unit centroids (k, d) float32; for each row of the index the number (n,) uint16 of its nearest one."""

    centroids: np.ndarray
    numbers: np.ndarray


class ClusterCandidates:
    """For each query the items of its nearest clusters: cluster after cluster, each in a seeded random order.

    `scores` are cosines of query and item; `ranks` are places in the query's ranking of the item's cluster.
    Items under the similarity floor are left out.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._clusters = clusters_of(request.index)
        nearness = (request.searched @ self._clusters.centroids.T).max(axis=1)
        self._nearest = np.argsort(-np.round(nearness, 5), axis=1, kind="stable").astype(np.uint16)
        self._drawn: dict[int, np.ndarray] = {}
        self._passed = np.ones(request.numbering.total, dtype=bool)
        self._passed[request.index.hidden] = False
        if request.blocked is not None:
            self._passed &= request.blocked == 0
        count = len(request.labels)
        self.rows: list[np.ndarray] = [np.empty(0, np.int64)] * count
        self.scores: list[np.ndarray] = [np.empty(0, np.float32)] * count
        self._ranks: list[np.ndarray] = [np.empty(0, np.int64)] * count
        self._opened = np.zeros(count, dtype=np.int64)
        self.complete = np.zeros(count, dtype=bool)
        self.floored = np.zeros(count, dtype=bool)
        for query in range(count):
            self._open(query, _OVERDRAW * int(request.quotas[query]))

    @property
    def ranks(self) -> list[np.ndarray]:
        """Places in the query's ranking of the item's cluster."""
        return self._ranks

    def deepen(self, queries: list[int]) -> None:
        """Open further clusters for these queries, until each has twice as many items."""
        for query in queries:
            self._open(query, max(1, 2 * len(self.rows[query])))

    def _open(self, query: int, wanted: int) -> None:
        """Add clusters, nearest first, until there are `wanted` items."""
        pieces = [(self.rows[query], self.scores[query], self._ranks[query])]
        found = len(self.rows[query])
        while found < wanted and self._opened[query] < self._nearest.shape[1]:
            piece = self._piece(query, int(self._nearest[query, self._opened[query]]))
            self._opened[query] += 1
            pieces.append(piece)
            found += len(piece[0])
        self.rows[query], self.scores[query], self._ranks[query] = (
            np.concatenate(column) for column in zip(*pieces, strict=True)
        )
        self.complete[query] = self._opened[query] == self._nearest.shape[1]

    def _piece(self, query: int, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows, scores and ranks of one cluster for one query, in the order of the draw."""
        request, rows = self._request, self._members(number)
        views = np.ascontiguousarray(request.searched[query])
        scores = request.index.score(views, np.tile(rows, (len(views), 1))).max(axis=0)
        ranks = np.empty(len(rows), np.int64)
        ranks[np.lexsort((request.index.id_rank[rows], -scores))] = np.arange(1, len(rows) + 1)
        if request.min_similarity is not None:
            kept = scores >= request.min_similarity
            self.floored[query] |= not kept.all()
            rows, scores, ranks = rows[kept], scores[kept], ranks[kept]
        return rows, scores, ranks

    def _members(self, number: int) -> np.ndarray:
        """The rows of a cluster in their seeded order, which depends on their ids alone."""
        if number not in self._drawn:
            request = self._request
            rows = np.flatnonzero((self._clusters.numbers == number) & self._passed)
            keys = stored_keys(request.index, request.numbering, rows, request.seed)
            self._drawn[number] = rows[np.argsort(keys, kind="stable")]
        return self._drawn[number]


_known: "weakref.WeakKeyDictionary[Index, Clusters]" = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def clusters_of(index: "Index") -> Clusters:
    """The clusters of an index, made on first use: k-means with cosines (faiss, spherical, seeded) on a
    seeded sample of its distinct items, then each row to its nearest centroid.

    There are about as many clusters as a cluster has rows: k = √n, at most `MOST_CLUSTERS`. Memory: the
    sample, 32 k rows in float32, and two bytes per row.
    """
    with _lock:
        if index not in _known:
            _known[index] = _make(index)
        return _known[index]


def _make(index: "Index") -> Clusters:
    import faiss

    numbering = Numbering(index.parts)
    sample = _sample(index, numbering)
    if not len(sample):
        return Clusters(sample, np.zeros(numbering.total, np.uint16))
    kmeans = faiss.Kmeans(
        index.dimension,
        min(_cluster_count(numbering.total), len(sample)),
        niter=_ITERATIONS,
        seed=_SEED,
        spherical=True,
        min_points_per_centroid=1,
    )
    kmeans.train(sample)
    centroids = unit(np.asarray(kmeans.centroids))
    numbers = np.empty(numbering.total, np.uint16)
    with progress("assigning rows to clusters", numbering.total, "rows") as bar:
        for start, part in zip(numbering.starts.tolist(), index.parts, strict=True):
            stored = index.embeddings(part.number)
            for first in range(0, part.rows, _BLOCK):
                block = stored[first : first + _BLOCK].astype(np.float32)
                numbers[start + first : start + first + len(block)] = (block @ centroids.T).argmax(axis=1)
                bar.advance(len(block))
    return Clusters(centroids, numbers)


def _cluster_count(rows: int) -> int:
    return max(1, min(MOST_CLUSTERS, round(rows**0.5)))


def _sample(index: "Index", numbering: Numbering) -> np.ndarray:
    """Unit vectors of the distinct items with the smallest keyed ids: whatever the order of the pool, the
    same."""
    wanted = _SAMPLES_A_CLUSTER * _cluster_count(numbering.total)
    keys, rows = np.empty(0, np.uint64), np.empty(0, np.int64)
    visible = np.ones(numbering.total, dtype=bool)
    visible[index.hidden] = False
    for start, part in zip(numbering.starts.tolist(), index.parts, strict=True):
        fresh = start + np.flatnonzero(visible[start : start + part.rows])
        keys = np.concatenate([keys, stored_keys(index, numbering, fresh, _SEED)])
        rows = np.concatenate([rows, fresh])
        smallest = np.argsort(keys, kind="stable")[:wanted]
        keys, rows = keys[smallest], rows[smallest]
    return unit(index.vectors(numbering.positions(rows)))
