"""Where and with how many threads a run works: resolved once, written down, obeyed when the run is
resumed."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from transferset.console import say
from transferset.cores import available_cores
from transferset.errors import UsageError

CACHE_MB = 1024


@dataclass(frozen=True)
class Execution:
    """What may differ between two pieces of the same run (None and `auto`: chosen for this machine).

    `device`: `cpu`, `cuda`, `cuda:1`, …; `threads`: of the student on a CPU; `workers`: threads that decode
    and render ahead; `cache_mb`: memory for decoded images; `student_precision` (`auto`, `fp32`, `bf16`,
    `fp16`) and `compile_student` (`auto`, `on`, `off`): of the student's steps.
    """

    device: str = "auto"
    threads: int | None = None
    workers: int | None = None
    cache_mb: int = CACHE_MB
    student_precision: str = "auto"
    compile_student: str = "auto"

    def resolve(self, begun: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Device and threads, as JSON. They decide the last bits of the weights, so a run that was `begun`
        keeps its own, and tells where something else is asked for now."""
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"--threads {self.threads} must be at least 1")
        from transferset.models.runtime import resolve_device

        if begun is not None:
            self._tell_kept(begun)
            try:
                resolve_device(str(begun["device"]))
            except UsageError as error:
                raise UsageError(
                    f"the run was started on {begun['device']}, which is not here",
                    hint="continue where it is available, or give --out a new directory",
                ) from error
            return dict(begun)
        return {"device": resolve_device(self.device), "threads": self.threads or available_cores()}

    def _tell_kept(self, begun: Mapping[str, Any]) -> None:
        mode = begun.get("student_mode") or {}
        compiled = "on" if mode.get("compiled") else "off"
        told = (
            ("--device", self.device, begun["device"]),
            ("--threads", self.threads, begun["threads"]),
            ("--student-precision", self.student_precision, mode.get("precision", "fp32")),
            ("--compile", self.compile_student, compiled),
        )
        kept = [f"{name} {old}, not {given}" for name, given, old in told if given not in (None, "auto", old)]
        if kept:
            say(
                f"note: continues with its original settings, since they decide the last bits:"
                f" {'; '.join(kept)}"
            )

    @property
    def readers(self) -> int:
        """How many threads read ahead: they change nothing but the speed."""
        if self.workers is not None and self.workers < 0:
            raise UsageError(f"--workers {self.workers} must not be negative")
        return min(8, max(1, available_cores() // 2)) if self.workers is None else self.workers


@contextlib.contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Within, torch and numpy's BLAS compute with this many threads, whatever the environment says: how a
    product is divided decides its last bits."""
    import torch
    from threadpoolctl import threadpool_limits

    from transferset.models.allocator import keep_freed_memory

    keep_freed_memory()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)
