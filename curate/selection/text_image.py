"""Text-image selection: a class's name says what may be taken, its images which of that.

A class's candidates are the items nearest to its name (see `texts`), and among them each of its query images
takes those nearest to itself, in rounds as in query-balanced selection. Text first finds what the class is
where a few images show too little of it; the images then choose what looks like the task. Retrieval for few
labels by text first and images second is how Neural Priming (Wallingford et al., NeurIPS 2023) and SWAT (Liu
et al., CVPR 2025) build their sets, the former with exact captions instead of text embeddings.
"""

import numpy as np

from curate.selection.candidates import CandidateLists
from curate.selection.query_balanced import assign
from curate.selection.request import Assignment, Request


def text_image(request: Request) -> Assignment:
    """Fill every query's quota in rounds, from what its class's name finds."""
    return assign(request, request.lists_of(TextImageCandidates))


class TextImageCandidates:
    """For each query the M items nearest to its class's name, by similarity to the query. M is
    `text_depth` for each image that the class may take; where quotas stay open it is doubled, and the lists
    are made anew. `ranks` are places in this list.

    A similarity floor is of query and item; it ends a list: a class isn't searched deeper for it.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._classes = list(dict.fromkeys(request.labels))
        self._class_of = np.array([self._classes.index(label) for label in request.labels])
        vectors = np.stack([request.texts[label] for label in self._classes])
        wanted = np.bincount(self._class_of, weights=request.quotas, minlength=len(self._classes))
        self._depths = request.options.text_depth * np.maximum(1, wanted.astype(np.int64))
        self._by_text = CandidateLists(
            request.index, vectors, int(self._depths.max()), None, request.engine, request.blocked
        )
        count = len(request.labels)
        self.rows: list[np.ndarray] = [np.empty(0, np.int64)] * count
        self.scores: list[np.ndarray] = [np.empty(0, np.float32)] * count
        self.complete = np.zeros(count, dtype=bool)
        self.floored = np.zeros(count, dtype=bool)
        for query in range(count):
            self._rank(query)

    @property
    def ranks(self) -> list[np.ndarray]:
        """1, 2, 3, … among the class's candidates."""
        return [np.arange(1, len(rows) + 1) for rows in self.rows]

    def deepen(self, queries: list[int]) -> None:
        """Double M for the classes of these queries."""
        classes = sorted(set(self._class_of[queries].tolist()))
        self._depths[classes] *= 2
        for number in classes:
            if self._depths[number] > len(self._by_text.rows[number]):
                self._by_text.deepen([number])
        for query in np.flatnonzero(np.isin(self._class_of, classes)).tolist():
            self._rank(query)

    def _rank(self, query: int) -> None:
        request, number = self._request, self._class_of[query]
        everything = self._by_text.rows[number]
        rows = everything[: self._depths[number]]
        views = np.ascontiguousarray(request.searched[query])
        scores = request.index.score(views, np.tile(rows, (len(views), 1))).max(axis=0)
        order = np.lexsort((request.index.id_rank[rows], -scores))
        if request.min_similarity is not None:
            order = order[scores[order] >= request.min_similarity]
        self.floored[query] = len(order) < len(rows)
        self.rows[query], self.scores[query] = rows[order], scores[order]
        exhausted = self._by_text.complete[number] and len(rows) == len(everything)
        self.complete[query] = exhausted or self.floored[query]
