from collections.abc import Callable
from typing import Any

import numpy as np

from curate.selection.options import StrategyOptions
from curate.selection.request import Request
from curate.selection.text_image import text_image

Make = Callable[..., Any]


def _request(index: Any, vectors: np.ndarray, quotas: list[int], floor: float | None = None) -> Request:
    texts = {"a": np.eye(3, dtype=np.float32)[0], "b": np.eye(3, dtype=np.float32)[1]}
    labels = ("a", "a", "b")[: len(quotas)]
    nothing = np.array([], dtype=int)
    options = StrategyOptions(text_depth=2)
    return Request(
        index, vectors, labels, np.array(quotas), floor, False, 0, nothing, texts=texts, options=options
    )


def test_images_choose_among_what_the_name_finds(array_index: Make) -> None:
    rng = np.random.default_rng(0)
    index = array_index(rng.normal(size=(400, 3)))
    vectors = rng.normal(size=(3, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    chosen = text_image(_request(index, vectors, [5, 5, 8]))
    assert np.bincount(chosen.queries).tolist() == [5, 5, 8]
    by_name = np.argsort(-index.stored, axis=0, kind="stable")
    for query, column, images in ((0, 0, 10), (1, 0, 10), (2, 1, 8)):
        found = chosen.rows[chosen.queries == query]
        candidates = by_name[: 2 * images, column]
        assert set(found) <= set(candidates.tolist()), "among the nearest to the name, two for each image"
    best = by_name[:16, 1][np.argsort(-(index.stored[by_name[:16, 1]] @ vectors[2]))][:8]
    assert chosen.rows[chosen.queries == 2].tolist() == best.tolist()


def test_more_candidates_are_taken_until_quotas_fill(array_index: Make) -> None:
    index = array_index(np.random.default_rng(1).normal(size=(40, 3)))
    vectors = np.eye(3, dtype=np.float32)
    assert len(text_image(_request(index, vectors, [13, 13, 13]))) == 39
    assert len(text_image(_request(index, vectors, [20, 20, 20]))) == 40


def test_a_floor_is_of_query_and_image(array_index: Make) -> None:
    index = array_index(np.random.default_rng(1).normal(size=(200, 3)))
    vectors = np.eye(3, dtype=np.float32)
    request = _request(index, vectors, [20, 20, 20], 0.8)
    chosen = text_image(request)
    assert 0 < len(chosen) < 60 and (chosen.scores >= 0.8).all()
    assert request.lists.floored.any()
