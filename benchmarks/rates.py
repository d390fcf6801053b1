"""Rates of stages measured alone, and what they would give together on the same cores."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """One stage alone on all cores: images a second, and core-milliseconds an image."""

    stage: str
    per_second: float
    core_ms: float


def measure(stage: str, run: Callable[[], int]) -> Rate:
    """Time `run`, which returns how many images it has handled, after one warm-up."""
    run()
    wall, processor = time.perf_counter(), time.process_time()
    images = run()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return Rate(stage, images / wall, 1000 * processor / images)


def joint(rates: Iterable[Rate]) -> float:
    """Images a second of stages that share the same cores: the times of an image add up."""
    return 1 / sum(1 / rate.per_second for rate in rates)


def lines(rates: Iterable[Rate], actual: float) -> list[str]:
    """The measured stages, the prediction and how much of it was reached."""
    rates = list(rates)
    predicted = joint(rates)
    stages = [f"{r.stage:<22}{r.per_second:>9.0f} images/s{r.core_ms:>8.2f} core-ms/image" for r in rates]
    return [
        *stages,
        f"predicted joint rate {predicted:.0f}, measured {actual:.0f}, ratio {actual / predicted:.2f}",
    ]
