"""What a run did since the last line of its log."""

import time
from typing import Any


def note(summary: dict[str, Any]) -> str:
    """What a line of the log tells beside a progress bar, which has rate and time left itself."""
    parts = [f"loss {summary['loss']:.4f}", f"data wait {summary['data_wait_percent']:.0f} %"]
    if summary.get("teacher_percent", 0) > 0:
        parts.append(f"teacher {summary['teacher_percent']:.0f} %")
    return ", ".join(parts)


class Window:
    """Sums over the steps since the last restart; evaluations and checkpoints restart it, so they count for
    nothing."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget everything and start the clock."""
        self._start = time.perf_counter()
        self._losses: list[float] = []
        self._images = 0
        self._waited = 0.0
        self._rate = self._norm = 0.0

    def waited(self, seconds: float) -> None:
        """The loop stood still for its next batch."""
        self._waited += seconds

    def count(self, images: int, loss: float, rate: float, norm: float) -> None:
        """A step was done."""
        self._losses.append(loss)
        self._images += images
        self._rate, self._norm = rate, norm

    def summary(self, busy: dict[str, float]) -> dict[str, Any] | None:
        """The line of the log, None without a step; `busy` gives the seconds that other stages worked
        meanwhile."""
        if not self._losses:
            return None
        seconds = max(time.perf_counter() - self._start, 1e-9)
        return {
            "loss": round(sum(self._losses) / len(self._losses), 6),
            "lr": self._rate,
            "gradient_norm": round(self._norm, 6),
            "images_per_second": round(self._images / seconds, 1),
            "data_wait_percent": round(100 * self._waited / seconds, 1),
            **{
                f"{stage}_percent": round(min(100.0, 100 * spent / seconds), 1)
                for stage, spent in busy.items()
            },
        }
