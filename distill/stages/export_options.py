"""What `distill export` is given, and what it reports."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill.export.format import is_export
from distill.export.onnx_graph import require_extra
from distill.loop.execution import Execution
from distill.loop.run_directory import read_config
from distill.task import TOP1
from transferset.errors import UsageError
from transferset.images import MAX_PIXELS
from transferset.labelled import SPLITS

ALL = "all"
NONE, NORMALISE, RESIZE = "none", "normalise", "resize"
INSIDE = {
    NONE: "resized, cropped, normalised images",
    NORMALISE: "resized, cropped uint8 images",
    RESIZE: "one decoded uint8 image of any size at a time",
}
TOLERANCE, RESIZE_TOLERANCE = 1e-3, 0.1


@dataclass(frozen=True)
class ExportOptions:
    """What `distill export` is given.

    `data`: real images, labelled for `int8`, to compare on: those of `split`, by default of test, else val,
    else all. `onnx`, `int8`: write these graphs too; `preprocessing`: what they take, see INSIDE.
    `tolerance`: largest difference of a logit (answers may
    change where the run's two largest are at most twice that apart), by default TOLERANCE, or where graphs
    resize, which moves some pixels by a grey level, RESIZE_TOLERANCE, the run being shown what Pillow
    resizes. For int8 the score, by the metric that
    selected the run, may drop by `max_drop` at most; it is calibrated on `calibration_images` of the train
    split.
    """

    model: Path
    out: Path
    data: Path | None = None
    split: str | None = None
    onnx: bool = False
    int8: bool = False
    preprocessing: str = NONE
    tolerance: float | None = None
    max_drop: float = 0.02
    calibration_images: int = 200
    batch_size: int = 64
    seed: int = 0
    max_pixels: int = MAX_PIXELS
    execution: Execution = field(default_factory=Execution)

    @property
    def allowed(self) -> float:
        """The largest difference of a logit."""
        if self.tolerance is not None:
            return self.tolerance
        return RESIZE_TOLERANCE if self.preprocessing == RESIZE else TOLERANCE


@dataclass(frozen=True)
class ExportReport:
    """The result of `distill export`, as `report.json` holds it (without `out`).

    `score`, `interval`, `scored_on`: the run's own estimate. `compared_on`: split, number of images and the
    run's score there. `files`: of each model its bytes, `speed` and `parity` (None: the run's tensors, bit
    for bit). `machine`: what the speed was measured on. `metric`: of all scores, what the run was selected
    by.
    """

    out: str
    task: str
    spec: str
    parameters: int
    image_size: int
    flops_per_image: float
    score: float | None
    interval: tuple[float, float] | None
    scored_on: str | None
    compared_on: dict[str, Any] | None
    calibration_images: int
    files: dict[str, dict[str, Any]]
    machine: dict[str, Any]
    versions: dict[str, str]
    metric: str = TOP1


def check(options: ExportOptions) -> None:
    """UsageError for options that don't fit each other or a model that is no run of a student."""
    if read_config(options.model).get("command") == "adapt":
        raise UsageError(f"{options.model} is a teacher", hint="export a run of distill train or finetune")
    if is_export(options.model):
        raise UsageError(f"{options.model} is an export already", hint="export the run that it was made from")
    _check_inside(options)
    if options.split is not None and options.split not in (*SPLITS, ALL):
        raise UsageError(f"unknown --split {options.split!r}", hint=f"one of: {', '.join((*SPLITS, ALL))}")
    if options.split is not None and options.data is None:
        raise UsageError("--split without --data", hint="give the labelled images, or leave it out")
    if not options.allowed >= 0 or not 0 <= options.max_drop <= 1:
        raise UsageError("--tolerance must not be negative, and --max-drop lie between 0 and 1")
    if options.calibration_images < 1 or options.batch_size < 1:
        raise UsageError("--calibration-images and --batch-size must be positive")
    if options.onnx or options.int8:
        option = "--onnx" if options.onnx else "--int8"
        require_extra(option)
        if options.data is None:
            raise UsageError(f"{option} without --data", hint="give real images, to compare the answers on")


def _check_inside(options: ExportOptions) -> None:
    if options.preprocessing not in INSIDE:
        choices = "; ".join(f"{name} ({what})" for name, what in INSIDE.items())
        raise UsageError(f"unknown --preprocessing {options.preprocessing!r}", hint=f"one of: {choices}")
    if options.preprocessing != NONE and not (options.onnx or options.int8):
        raise UsageError("--preprocessing is for ONNX graphs", hint="add --onnx or --int8")
