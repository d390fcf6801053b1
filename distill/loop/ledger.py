"""What a run cost: images, seconds and floating-point operations of every stage."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Stage:
    """One stage's images, wall-clock seconds (of its threads, which run beside each other) and FLOPs."""

    images: int = 0
    seconds: float = 0.0
    flops: float = 0.0


@dataclass
class Ledger:
    """Costs by stage, summed over resumed pieces of a run. One multiplication with addition is two FLOPs."""

    stages: dict[str, Stage] = field(default_factory=dict)

    def add(self, stage: str, images: int = 0, seconds: float = 0.0, flops: float = 0.0) -> None:
        """Add to a stage."""
        entry = self.stages.setdefault(stage, Stage())
        entry.images += images
        entry.seconds += seconds
        entry.flops += flops

    @contextlib.contextmanager
    def timed(self, stage: str, images: int = 0, flops: float = 0.0) -> Iterator[None]:
        """Add the body's seconds to a stage."""
        start = time.perf_counter()
        yield
        self.add(stage, images, time.perf_counter() - start, flops)

    def to_dict(self) -> dict[str, Any]:
        """As JSON: `{stage: {images, seconds, flops}}`."""
        return {name: asdict(stage) for name, stage in self.stages.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Ledger":
        """The inverse of `to_dict`."""
        return cls({name: Stage(**entry) for name, entry in values.items()})
