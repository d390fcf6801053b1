"""How fast a model answers here: latency of one image, images per second in batches."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transferset.console import say
from transferset.cores import available_cores

SECONDS = 1.0
_WARM_UP = 3
_MIN_RUNS = 5


@dataclass(frozen=True)
class Speed:
    """`latency_ms`: of one image; `images_per_second`: in batches of `batch_size`; both from the fastest run,
    which other processes have disturbed least. `median_latency_ms` shows how much they did. From uint8 images
    of `image_size` × `image_size` pixels to logits; reading and decoding are not in it."""

    latency_ms: float
    median_latency_ms: float
    images_per_second: float
    batch_size: int
    image_size: int


def measure_speed(logits: Callable[[np.ndarray], np.ndarray], size: int, batch_size: int) -> Speed:
    """Time a model on noise of `size` pixels for about two seconds."""
    images = np.random.default_rng(0).integers(0, 256, (batch_size, size, size, 3), dtype=np.uint8)
    single = run_seconds(lambda: logits(images[:1]))
    return Speed(
        latency_ms=1000 * min(single),
        median_latency_ms=1000 * statistics.median(single),
        images_per_second=batch_size / min(run_seconds(lambda: logits(images))),
        batch_size=batch_size,
        image_size=size,
    )


def run_seconds(run: Callable[[], object], seconds: float | None = None) -> list[float]:
    """The times of `run`, called for about `seconds` (None: SECONDS) after warming up."""
    for _ in range(_WARM_UP):
        run()
    times: list[float] = []
    end = time.perf_counter() + (SECONDS if seconds is None else seconds)
    while len(times) < _MIN_RUNS or time.perf_counter() < end:
        before = time.perf_counter()
        run()
        times.append(time.perf_counter() - before)
    return times


def tell_if_busy() -> str | None:
    """Say, and return, that other processes want the processors too: figures are worse than they should be
    then."""
    load, count = os.getloadavg()[0], available_cores()
    if load <= count + 0.5:
        return None
    told = f"this machine is busy (load {load:.1f} on {count} cores): latencies are too high, rates too low"
    say(told)
    return told


def machine(threads: int) -> dict[str, str | int]:
    """What figures were measured on."""
    return {"processor": _processor(), "threads": threads}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
