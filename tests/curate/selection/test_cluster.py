from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from curate.selection.cluster import cluster, clusters_of
from curate.selection.request import Request

Make = Callable[..., Any]


@pytest.fixture
def concepts(array_index: Make) -> Any:
    """400 items in 20 tight groups of 20, in parts; item n is of group n % 20."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(20, 16))
    return array_index(np.tile(centres, (20, 1)) + 0.02 * rng.normal(size=(400, 16)), cuts=(100, 250))


def _request(index: Any, rows: list[int], quotas: list[int], **more: Any) -> Request:
    given = {"min_similarity": None, "seed": 0, **more}
    return Request(
        index, index.stored[rows], (None,) * len(rows), np.array(quotas), given["min_similarity"], False,
        given["seed"], np.array([], dtype=int),
    )  # fmt: skip


def test_rows_stand_with_the_centroid_nearest_to_them(concepts: Any) -> None:
    clusters = clusters_of(concepts)
    assert clusters.centroids.shape == (20, 16)
    np.testing.assert_allclose(np.linalg.norm(clusters.centroids, axis=1), 1, atol=1e-5)
    nearest = (concepts.stored @ clusters.centroids.T).argmax(axis=1)
    assert (clusters.numbers == nearest).all()
    assert clusters_of(concepts) is clusters, "they are made once"


def test_the_draw_is_from_the_querys_own_group_and_not_the_nearest_of_it(concepts: Any) -> None:
    chosen = cluster(_request(concepts, [0, 7], [6, 6]))
    numbers = clusters_of(concepts).numbers
    assert (numbers[chosen.rows] == numbers[[0, 7]][chosen.queries]).all()
    assert max(chosen.ranks) > 6, "a draw, not the best"
    assert set(cluster(_request(concepts, [0, 7], [6, 6], seed=1)).rows) != set(chosen.rows)


def test_a_group_that_is_too_small_is_followed_by_the_next_nearest(concepts: Any) -> None:
    chosen = cluster(_request(concepts, [3], [70]))
    assert len(chosen) == 70 and (np.bincount(chosen.rows % 20, minlength=20)[3] == 20)
    everything = cluster(_request(concepts, [3], [900]))
    assert sorted(everything.rows) == list(range(400))


def test_a_floor_holds(concepts: Any) -> None:
    chosen = cluster(_request(concepts, [3], [70], min_similarity=0.9))
    assert len(chosen) == 20 and (chosen.scores >= 0.9).all()


def test_ranks_are_places_in_the_items_cluster(concepts: Any) -> None:
    own = np.flatnonzero(clusters_of(concepts).numbers == clusters_of(concepts).numbers[5])
    chosen = cluster(_request(concepts, [5], [len(own)]))
    ranked = own[np.argsort(-(concepts.stored[own] @ concepts.stored[5]), kind="stable")]
    best = chosen.rows[np.argsort(chosen.ranks)]
    assert best.tolist() == ranked.tolist()


def test_the_order_of_the_pool_changes_nothing(concepts: Any, array_index: Make) -> None:
    order = np.random.default_rng(5).permutation(400)
    shuffled = array_index(concepts.stored[order], concepts.ids[order], cuts=(50,))
    place = np.argsort(order)
    plain = cluster(_request(concepts, [0, 7], [9, 9]))
    moved = cluster(_request(shuffled, [int(place[0]), int(place[7])], [9, 9]))
    assert {bytes(concepts.ids[row]) for row in plain.rows} == {bytes(shuffled.ids[r]) for r in moved.rows}
