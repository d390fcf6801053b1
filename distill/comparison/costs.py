"""What a cell costs: images, FLOPs and seconds of every stage, and which of them other cells share."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transferset.errors import DataError
from transferset.writes import read_json, write_json

PARALLEL = ("data", "wait", "teacher")
"""Stages of a loop whose seconds run beside those of the student."""


@dataclass(frozen=True)
class Cost:
    """One stage. `shared`: counted here in full, and paid once for several cells. `tuning`: what the search
    for the best settings cost beyond the run that was chosen."""

    stage: str
    images: int
    flops: float
    seconds: float
    shared: bool = False
    tuning: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def cost_of_run(
    stage: str, costs: Mapping[str, Any], seconds: float, *, shared: bool = False, tuning: bool = False
) -> list[Cost]:
    """The costs of one command, out of its report's ledger: what the student, the teacher, features,
    evaluation on val and probe computed, each by its FLOPs and images, and `seconds` on the wall as a
    whole."""
    found = [
        Cost(f"{stage}: {name}", int(entry["images"]), float(entry["flops"]), 0.0, shared, tuning)
        for name, entry in sorted(costs.items())
        if entry["flops"] or name not in (*PARALLEL, "checkpoint", "student")
    ]
    return [Cost(stage, 0, 0.0, seconds, shared, tuning), *found]


def total(costs: list[Cost]) -> Cost:
    """The sum of all stages, those of choosing on val too, without what tuning cost."""
    own = [cost for cost in costs if not cost.tuning]
    return Cost(
        "total",
        sum(cost.images for cost in own if cost.flops),
        sum(cost.flops for cost in own),
        sum(cost.seconds for cost in own),
    )


@contextlib.contextmanager
def wall_clock(path: Path, done: Path | None = None) -> Iterator[None]:
    """Add the body's seconds to the number in the file, however the body ends (a killed body's are lost);
    nothing if `done`, which the work writes last, is there already."""
    start, idle = time.perf_counter(), done is not None and done.exists()
    try:
        yield
    finally:
        if not idle:
            add_seconds(path, time.perf_counter() - start)


def add_seconds(path: Path, seconds: float) -> None:
    """Add to the number in the file."""
    write_json(path, {"seconds": read_seconds(path) + seconds})


def read_seconds(path: Path) -> float:
    """The seconds that `wall_clock` has counted; 0 where it has not, or its file is damaged."""
    try:
        return float(read_json(path)["seconds"])
    except (DataError, KeyError, TypeError, ValueError):
        return 0.0
