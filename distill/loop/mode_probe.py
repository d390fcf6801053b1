"""The probe that chooses the mode of a run before its first step."""

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from distill.loop.execution import Execution
from distill.loop.mode import PLAIN, Arithmetic, Mode, check_mode, why_not_compile
from distill.loop.recipe import Recipe
from distill.models.student import Student
from transferset.console import say
from transferset.errors import UsageError
from transferset.known_errors import is_memory_error

if TYPE_CHECKING:
    from torch import nn

FASTER = 1.15
"""Anything else than fp32, channels last and not compiled must be so many times as fast."""
SHORT_STEPS = 50
PROBE_PAYS_SECONDS = 60.0
COMPILE_PAYS_SECONDS = 1800.0
_IMAGES, _SHORT_SECONDS = 16, 0.3  # on a CPU; as many more as are done in this time
_RUNS, _ENOUGH_SECONDS = 3, 0.7
# Of a mode that a device, a compiler or the memory has no room for.
_FAILURES = (RuntimeError, ImportError, OSError, MemoryError, FloatingPointError, ValueError)


def resolve_mode(
    found: Mapping[str, Any] | None,
    student: Student,
    recipe: Recipe,
    execution: Execution,
    what: str = "student",
) -> Mode:
    """The mode of a run: what stands in `found`, resolved by an earlier piece of it; else what was asked for
    or, where that is `auto`, what a short probe finds faster. Tells which, and by how much; `what` learns.

    The probe works on a copy: weights, buffers and random numbers stay as they are. Raises UsageError for
    unknown words and for `--compile on` where nothing can be compiled.
    """
    check_mode(execution.student_precision, execution.compile_student)
    if found is not None:
        return Mode.from_dict(found.get("student_mode"))
    reason = why_not_compile(_device(student.module).type)
    if execution.compile_student == "on" and reason:
        raise UsageError(f"--compile on: {reason}", hint="install one, or give --compile auto or off")
    asked = Mode(
        precision="fp32" if execution.student_precision == "auto" else execution.student_precision,
        compiled=execution.compile_student == "on",
    )
    mode, told = _Probe(student, recipe, execution, reason).choose(asked)
    if told or mode != PLAIN:
        say(f"{what}: {mode}" + (f" ({'; '.join(told)})" if told else ""))
    return mode


class _Probe:
    """Times steps of a copy of the student in one mode after another."""

    def __init__(
        self, student: Student, recipe: Recipe, execution: Execution, no_compiler: str | None
    ) -> None:
        self.student = student
        self.recipe = recipe
        self.execution = execution
        self.no_compiler = no_compiler
        self.device = _device(student.module)
        self.part = math.ceil(recipe.batch_size / recipe.accumulate)
        self.images = self.part if self.device.type == "cuda" else min(self.part, _IMAGES)

    def choose(self, asked: Mode) -> tuple[Mode, list[str]]:
        """The mode, and what was measured. Short runs are done before a probe has paid: they stay plain."""
        if self.recipe.end < SHORT_STEPS or self.images < 2:
            return asked, []
        wanted = asked if not asked.compiled else replace(asked, compiled=False)
        best, told = wanted, []
        fastest = start = self.seconds(wanted, runs=1)
        run = start * self.recipe.end * self.recipe.batch_size / self.images
        if not PROBE_PAYS_SECONDS <= run < math.inf:
            return asked, []
        if start < _SHORT_SECONDS:  # small batches tell little of large ones
            self.images = min(self.part, int(self.images * _SHORT_SECONDS / start))
        fastest = start = self.seconds(wanted)
        run = start * self.recipe.end * self.recipe.batch_size / self.images
        told.append(f"{wanted.precision} takes {1000 * start:.0f} ms for {self.images} images")
        others, hopeless = self._others(wanted), 0
        for number, (name, mode) in enumerate(others.items()):
            if number == 2 == hopeless:  # both halves of it are slow
                break
            seconds = self.seconds(mode, at_most=2 * start)
            told.append(f"{name} {start / seconds:.2f}×")
            hopeless += seconds > start
            if seconds * FASTER < start and seconds < fastest:
                best, fastest = mode, seconds
        if asked.compiled:
            return replace(best, compiled=True), told
        return self._compiled(best, fastest, run * fastest / start, told)

    def _others(self, wanted: Mode) -> dict[str, Mode]:
        """What may be faster: half precision, and the other memory format, in fp32 too."""
        half = "bf16"
        if self.device.type == "cuda":
            import torch

            half = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        others = {"contiguous": replace(wanted, channels_last=False)}
        if self.execution.student_precision == "auto":
            others[half] = replace(wanted, precision=half)
            others[f"{half} contiguous"] = replace(wanted, precision=half, channels_last=False)
        return others

    def _compiled(self, best: Mode, seconds: float, run: float, told: list[str]) -> tuple[Mode, list[str]]:
        """Compiling takes minutes on a CPU: only runs that are long enough to win them back try it."""
        if self.execution.compile_student == "off":
            return best, told
        if self.no_compiler or run < COMPILE_PAYS_SECONDS:
            told.append(self.no_compiler or "compile not tried: the run is short")
            return best, told
        say("compiling, to see whether that pays: may take some minutes, and is done once")
        compiled = replace(best, compiled=True)
        ratio = seconds / self.seconds(compiled, at_most=2 * seconds)
        told.append(f"compiled {ratio:.2f}×")
        return (compiled if ratio >= FASTER else best), told

    def seconds(self, mode: Mode, *, runs: int = _RUNS, at_most: float = math.inf) -> float:
        """Of the fastest step of a few, after a warm-up; infinite where the mode does not work, or gives no
        finite numbers."""
        import torch

        module = copy.deepcopy(self.student.module).train()
        try:
            with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
                step = self._step(module, Arithmetic(module, mode))
                return _fastest(step, runs, at_most)
        except _FAILURES as error:
            if not isinstance(error, FloatingPointError) and not is_memory_error(error):
                reason = " ".join(str(error).split())[:160]
                say(f"note: steps cannot run in {mode}: {reason or type(error).__name__}")
            return math.inf

    def _step(self, module: "nn.Module", arithmetic: Arithmetic) -> Callable[[], None]:
        import torch

        size = self.student.preprocessing.size
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(self.images, 3, size, size, generator=generator).to(self.device)
        synchronise = torch.cuda.synchronize if self.device.type == "cuda" else lambda: None

        def step() -> None:
            module.zero_grad(set_to_none=True)
            outputs = arithmetic.outputs(inputs)
            loss = outputs.square().mean()
            loss.backward()
            synchronise()
            if not bool(torch.isfinite(loss)):
                raise FloatingPointError("the loss is not finite")

        return step


def _fastest(step: Callable[[], None], runs: int, at_most: float) -> float:
    """Of `runs` steps, and of more while they are short: other work on the machine slows some of them down,
    and hardly all."""
    step()
    taken: list[float] = []
    while len(taken) < runs or (runs > 1 and sum(taken) < _ENOUGH_SECONDS and min(taken) <= at_most):
        start = time.perf_counter()
        step()
        taken.append(time.perf_counter() - start)
    return min(taken)


def _device(module: "nn.Module") -> Any:
    return next(module.parameters()).device
