"""A map over threads that keeps the order and bounds what is in flight."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ordered_map(
    fn: Callable[[T], R], items: Iterable[T], workers: int, window: int
) -> Generator[R, None, None]:
    """Yield `fn(item)` in the order of `items`, computed by `workers` threads, at most `window` items in
    flight.

    `items` is read lazily and only by the caller's thread. An exception of `fn` comes out at its item's
    place; after it, or when the iterator is closed early, nothing new is started. With one worker and a
    window of one everything runs in the caller's thread.
    """
    if workers < 1 or window < 1:
        raise ValueError(f"workers and window must be at least 1, got {workers} and {window}")
    if workers == 1 and window == 1:
        yield from map(fn, items)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="transferset")
    try:
        flying: deque[Future[R]] = deque()
        for item in items:
            if len(flying) >= window:
                yield flying.popleft().result()
            flying.append(pool.submit(fn, item))
        while flying:
            yield flying.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
