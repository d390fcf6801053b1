import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.data import order as module
from distill.data.order import Order, permutation


@given(st.integers(1, 500), st.integers(0, 2**31 - 1), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_every_epoch_is_a_permutation(count: int, seed: int, epoch: int) -> None:
    assert np.array_equal(np.sort(permutation(count, seed, epoch)), np.arange(count))


@given(st.integers(1, 40), st.integers(1, 64), st.integers(0, 2**31 - 1))
@settings(max_examples=50, deadline=None)
def test_batches_are_the_positions_in_order_without_gaps(count: int, size: int, seed: int) -> None:
    order, steps = Order(count, seed), 7
    epochs, indices = order.locate(np.arange(steps * size))
    batches = [order.batch(step, size) for step in range(steps)]
    assert np.array_equal(np.concatenate([batch[0] for batch in batches]), epochs)
    assert np.array_equal(np.concatenate([batch[1] for batch in batches]), indices)
    assert np.array_equal(epochs, np.arange(steps * size) // count)


def test_epochs_and_seeds_differ() -> None:
    orders = {tuple(permutation(50, seed, epoch)) for seed in range(10) for epoch in range(10)}
    assert len(orders) == 100


def test_order_is_the_same_on_every_machine_and_version() -> None:
    assert permutation(8, 0, 0).tolist() == [2, 7, 1, 3, 0, 6, 4, 5]
    assert permutation(8, 7, 3).tolist() == [2, 5, 3, 0, 6, 1, 7, 4]


def test_places_are_uniform() -> None:
    counts = np.zeros((20, 20))
    for epoch in range(2000):
        counts[np.arange(20), permutation(20, 1, epoch)] += 1
    assert abs(counts / 2000 - 1 / 20).max() < 0.03


def test_threads_that_need_an_order_together_compute_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    count, mix, calls = 1001, module.mix, []

    def slow(values: np.ndarray) -> np.ndarray:
        if len(values) == count:
            calls.append(1)
            time.sleep(0.05)
        return mix(values)

    monkeypatch.setattr(module, "mix", slow)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: permutation(count, 11, 5), range(4)))
    assert len(calls) == 1 and all(order is found[0] for order in found)
