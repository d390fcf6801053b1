"""Rates of stages measured alone, and what they would give together."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """One stage alone on all cores: images per second, and core-milliseconds per image."""

    stage: str
    per_second: float
    core_ms: float


def measure(stage: str, run: Callable[[], int], seconds: float = 0.0) -> Rate:
    """Time `run`, which returns how many images it has handled, after one warm-up: once, or again and again
    for so many seconds."""
    run()
    start, processor = time.perf_counter(), time.process_time()
    images, wall = 0, 0.0
    while not images or wall < seconds:
        images += run()
        wall = time.perf_counter() - start
    return Rate(stage, images / wall, 1000 * (time.process_time() - processor) / images)


def joint(rates: Iterable[Rate]) -> float:
    """Images per second of stages that share the same cores: the times of an image add up."""
    return 1 / sum(1 / rate.per_second for rate in rates)


def joint_with_device(host: Iterable[Rate], device: Rate) -> float:
    """Images per second where one stage runs on a device of its own: the slower of host and device."""
    return min(joint(host), device.per_second)


def bottleneck(rates: Sequence[Rate], on_device: Rate | None = None) -> tuple[Rate, float]:
    """The stage that the time goes to, and its share of an image's time on all cores: the slowest one of
    those that share the cores, or the device that all of them wait for (share 1)."""
    host = [rate for rate in rates if rate is not on_device]
    if on_device is not None and on_device.per_second <= joint(host):
        return on_device, 1.0
    slowest = min(host, key=lambda rate: rate.per_second)
    return slowest, joint(host) / slowest.per_second
