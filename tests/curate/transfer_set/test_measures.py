from typing import Any

import numpy as np
import pytest

from curate.index.index import open_index
from curate.selection.background import EDGES, measure_background, sample_pool
from curate.transfer_set.measures import count_odd, measure_span
from transferset.vectors import unit


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_the_effective_rank_counts_equally_strong_directions() -> None:
    axes = np.repeat(np.vstack([np.eye(16), -np.eye(16)])[:, :16], 5, axis=0).astype(np.float32)
    assert measure_span(axes).effective_rank == pytest.approx(16)
    assert measure_span(_unit(np.eye(5, 64))).effective_rank == pytest.approx(4), (
        "n images, n - 1 differences"
    )
    assert measure_span(np.vstack([axes[:1]] * 8)).effective_rank == 1
    assert measure_span(axes[:1]).effective_rank == 1


def test_it_is_the_entropy_of_the_covariance(picture: Any) -> None:
    vectors = _unit(np.random.default_rng(0).normal(size=(300, 12)) * np.linspace(0.1, 2, 12))
    values = np.linalg.eigvalsh(np.cov(vectors.T))
    shares = values / values.sum()
    expected = np.exp(-(shares * np.log(shares)).sum())
    assert measure_span(vectors).effective_rank == pytest.approx(expected, abs=0.06)
    repeated = measure_span(np.vstack([vectors] * 7))
    assert repeated.effective_rank == pytest.approx(expected, abs=0.06), "copies add no direction"


def test_odd_is_what_lies_far_below_the_class() -> None:
    usual = np.linspace(0.55, 0.65, 40)
    assert count_odd(usual) == 0
    assert count_odd(np.append(usual, [0.2, 0.3])) == 2
    assert count_odd(np.array([0.9, 0.9, 0.9, 0.1])) == 0, "a handful has no odd ones"


def test_a_sample_of_the_pool_is_seeded_and_distinct(small_pool: Any) -> None:
    index = open_index(small_pool.index)
    everything = sample_pool(index, 1000, 0)
    assert len(everything) == index.distinct == 70
    some = sample_pool(index, 20, 3)
    assert np.array_equal(some, sample_pool(index, 20, 3)) and set(some) <= set(everything.tolist())
    assert not np.array_equal(some, sample_pool(index, 20, 4))


def test_the_background_is_the_mean_cosine_to_the_pool(small_pool: Any) -> None:
    index = open_index(small_pool.index)
    vectors = unit(index.vectors(sample_pool(index, 1000, 0)))
    queries = vectors[:3]
    found = measure_background(index, queries, seed=0)
    cosines = queries @ vectors.T
    assert found.images == 70
    assert found.mean == pytest.approx(cosines.mean(axis=1), abs=1e-3)
    assert found.spread == pytest.approx(cosines.std(axis=1), abs=1e-3)
    assert sum(found.histogram) == cosines.size and len(found.histogram) == len(EDGES) - 1
