"""What a frozen model runs on: eager torch, torch.compile, or OpenVINO on CPUs.

Every runtime takes uint8 images and normalises them inside its graph. A batch is always padded to one fixed
size, so that the features of an image do not depend on how many others came with it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from transferset.errors import UsageError
from transferset.models.agreement import MIN_COSINE, sample_images
from transferset.models.allocator import return_freed_memory
from transferset.models.backbone import Backbone
from transferset.models.engine import CannotRun, Opened, RunBatch, Setup
from transferset.models.preprocessing import Preprocessing

RuntimeName = Literal["auto", "eager", "compile", "openvino"]
RUNTIMES: tuple[RuntimeName, ...] = ("auto", "eager", "compile", "openvino")
PRECISIONS: dict[str, str | None] = {"auto": None, "fp32": "f32", "bf16": "bf16", "fp16": "f16"}
"""What a user says, and what is recorded."""
FASTER = 1.3
"""`auto` goes down to a plainer runtime only if that is so many times as fast."""
_PROBE_SECONDS = 0.5
_LONG_RUN_SECONDS = 5.0
_PROBE_IMAGES = 32


@dataclass(frozen=True)
class RuntimeInfo:
    """What was chosen, for plans and reports.

    Attributes:
        runtime: the engine.
        precision: of its arithmetic: `f32`, `bf16`, `f16`.
        version: of the engine's library.
        device: `cpu`, `cuda:0`, …
        note: why `auto` took a plainer runtime, or how far features are off; mostly empty.
    """

    runtime: Literal["eager", "compile", "openvino"]
    precision: str
    version: str
    device: str
    note: str = ""


class FrozenModel:
    """A backbone that is ready to run: call it with images, get features. Threads take turns.

    Args:
        run: (batch_size, size, size, 3) uint8 to (batch_size, dimension) float32, both its own.
        backbone: what `run` computes.
        info: how it computes it.
        batch_size: rows of every call of `run`.
    """

    def __init__(self, run: RunBatch, backbone: Backbone, info: RuntimeInfo, batch_size: int) -> None:
        self.info = info
        self.batch_size = batch_size
        self.preprocessing: Preprocessing = backbone.preprocessing
        self.dimension = backbone.dimension
        size = self.preprocessing.size
        self._run = run
        self._lock = threading.Lock()
        self._padded = np.zeros((batch_size, size, size, 3), np.uint8)

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """Features of rendered images.

        Args:
            batch: (n, size, size, 3) uint8, n <= batch_size, as `Preprocessing.render` makes them.

        Returns:
            (n, dimension) float32, as the model gives them (not L2-normalised).

        Raises:
            ValueError: another shape or type.
        """
        count = len(batch)
        if batch.dtype != np.uint8 or batch.shape[1:] != self._padded.shape[1:] or count > self.batch_size:
            raise ValueError(
                f"expected uint8 of shape {self._padded.shape} or fewer rows, "
                f"got {batch.dtype} of shape {batch.shape}"
            )
        with self._lock:
            if count == self.batch_size:
                return self._run(np.ascontiguousarray(batch))
            self._padded[:count] = batch
            self._padded[count:] = 0
            return self._run(self._padded)[:count].copy()


def open_runtime(
    backbone: Backbone,
    *,
    runtime: RuntimeName = "auto",
    precision: str = "auto",
    batch_size: int,
    device: str = "auto",
    threads: int | None = None,
) -> FrozenModel:
    """Put a backbone on a runtime.

    Args:
        backbone: the model; an eager runtime moves its module to the device.
        runtime: `auto` is the first that can run the model of OpenVINO (on a CPU), torch.compile, eager;
            eager torch is taken all the same where a short probe shows it 1.3 times as fast. Where OpenVINO
            runs, nothing is compiled to compare with, because that takes up to a minute.
        precision: `fp32`, `bf16`, `fp16`; `auto` is the fastest in which the features of test images keep a
            cosine of 0.999 to those of eager torch in fp32.
        batch_size: images of one run; smaller batches are padded to it.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, … OpenVINO runs on the CPU only.
        threads: CPU threads; by default the engine's own choice. Eager torch has one number for the process.

    Raises:
        UsageError: an unknown or impossible combination; or a runtime was asked for by name and is not
            there or cannot run the model.
    """
    if runtime not in RUNTIMES:
        raise UsageError(f"unknown runtime {runtime!r}", f"choose one of {', '.join(RUNTIMES)}")
    if batch_size < 1 or (threads is not None and threads < 1):
        raise UsageError(f"batch size {batch_size} and threads {threads} must be positive", None)
    setup = Setup(batch_size, resolve_device(device), threads, _precision(precision))
    if runtime == "auto":
        return _fastest(backbone, setup)
    try:
        return _frozen(backbone, runtime, setup, _open(runtime, backbone, setup))
    except CannotRun as error:
        raise UsageError(
            f"the runtime {runtime} cannot run {backbone.spec}: {error}",
            error.hint or "use --runtime auto or eager, and --precision auto",
        ) from error


def _precision(name: str) -> str | None:
    if name not in PRECISIONS and name not in PRECISIONS.values():
        raise UsageError(f"unknown precision {name!r}", f"choose one of {', '.join(PRECISIONS)}")
    return PRECISIONS.get(name, name)


def _open(runtime: str, backbone: Backbone, setup: Setup) -> Opened:
    from transferset.models.openvino_graph import open_openvino
    from transferset.models.torch_engine import open_compiled, open_eager

    openers = {"openvino": open_openvino, "compile": open_compiled, "eager": open_eager}
    return openers[runtime](backbone, setup)


def _fastest(backbone: Backbone, setup: Setup) -> FrozenModel:
    notes: list[str] = []
    best: tuple[str, Opened] | None = None
    for name in ("openvino", "compile") if setup.device == "cpu" else ("compile",):
        try:
            best = name, _open(name, backbone, setup)
            break
        except CannotRun as error:
            notes.append(f"{name}: {error}")
    try:
        eager = _open("eager", backbone, setup)
    except CannotRun as error:
        if best is None:
            raise UsageError(f"nothing can run {backbone.spec}: {error}", "use --precision auto") from error
    else:
        if best is None:
            best = "eager", eager
        else:
            times = _times_as_fast(eager, best[1], setup, backbone.preprocessing.size)
            if times >= FASTER:
                notes.append(f"eager is {times:.1f} times as fast as {best[0]} here")
                best = "eager", eager
            elif setup.device == "cpu":
                return_freed_memory()
    return _frozen(backbone, best[0], setup, best[1], notes)


def _times_as_fast(eager: Opened, other: Opened, setup: Setup, size: int) -> float:
    """How many times as fast eager torch is, at least: on a few images, which take little memory and which it
    likes best; and if that is enough, on more, as many as a batch has if that is not too many."""
    few = len(sample_images(size))
    times = images_per_second(eager, few, size) / images_per_second(other, setup.batch_size, size)
    if times >= FASTER and setup.batch_size > few:
        many = images_per_second(eager, min(setup.batch_size, _PROBE_IMAGES), size)
        times = min(times, many / images_per_second(other, setup.batch_size, size))
    return times


def images_per_second(opened: Opened, images: int, size: int) -> float:
    """The rate of an engine in a short probe, `images` at once: its quickest run within half a second."""
    if opened.seconds is not None and opened.seconds > _LONG_RUN_SECONDS:
        return images / opened.seconds
    batch = np.resize(sample_images(size), (images, size, size, 3))
    quickest, begun = float("inf"), time.perf_counter()
    while time.perf_counter() - begun < _PROBE_SECONDS:
        start = time.perf_counter()
        opened.run(batch)
        quickest = min(quickest, time.perf_counter() - start)
    return images / quickest


def _frozen(
    backbone: Backbone, runtime: str, setup: Setup, opened: Opened, notes: Sequence[str] = ()
) -> FrozenModel:
    if opened.cosine < MIN_COSINE:
        notes = [
            *notes, f"in {opened.precision} features have a cosine of down to {opened.cosine:.4f} to fp32's"
        ]  # fmt: skip
    info = RuntimeInfo(
        runtime,  # type: ignore[arg-type]
        opened.precision,
        opened.version,
        setup.device,
        "; ".join(notes),
    )
    return FrozenModel(opened.run, backbone, info, setup.batch_size)


def resolve_device(device: str) -> str:
    """`auto` is the first GPU, else the CPU; a device that is not there is a UsageError."""
    import torch

    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        parsed = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"unknown device {device!r}", "use auto, cpu, cuda or cuda:1") from error
    if parsed.type == "cpu":
        return "cpu"
    if parsed.type != "cuda":
        raise UsageError(f"device {device!r} is not supported", "use auto, cpu, cuda or cuda:1")
    if not torch.cuda.is_available() or (parsed.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"there is no device {device!r} on this machine", "use --device cpu or auto")
    return f"cuda:{parsed.index or 0}"
