import threading
import time
from collections.abc import Iterator

import pytest

from transferset.parallel import ordered_map


@pytest.mark.parametrize(("workers", "window"), [(1, 1), (1, 4), (3, 5), (4, 2)])
def test_results_come_in_order(workers: int, window: int) -> None:
    def slow(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number * number

    assert list(ordered_map(slow, range(30), workers, window)) == [number * number for number in range(30)]


def test_nothing_in_nothing_out() -> None:
    assert list(ordered_map(str, [], 2, 2)) == []


def test_at_most_window_items_are_in_flight() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(100):
            taken += 1
            yield number

    for returned, _ in enumerate(ordered_map(str, items(), 2, 5)):
        assert taken - returned <= 6  # five in flight and the one being handed over


def test_threads_run_at_once() -> None:
    barrier = threading.Barrier(3, timeout=10)
    assert list(ordered_map(lambda _: barrier.wait() >= 0, range(3), 3, 3)) == [True] * 3


def test_an_error_comes_out_at_its_place_and_stops_the_rest() -> None:
    started: list[int] = []

    def fail_at_five(number: int) -> int:
        started.append(number)
        if number == 5:
            raise ValueError("five")
        return number

    seen: list[int] = []
    with pytest.raises(ValueError, match="five"):
        seen.extend(ordered_map(fail_at_five, range(1000), 2, 4))
    assert len(started) < 20


def test_closing_early_stops_the_workers() -> None:
    before = threading.active_count()
    results = ordered_map(str, range(1000), 3, 6)
    assert next(results) == "0"
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_senseless_sizes_are_refused() -> None:
    for workers, window in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            next(ordered_map(str, [1], workers, window))
