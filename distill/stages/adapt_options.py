"""What `distill adapt` is given, and what it reports."""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from distill.data.views import augmentation
from distill.loop.execution import Execution
from distill.loop.plan import Plan
from distill.models.heads import CLASS_WEIGHTS
from distill.models.teacher import check_precision, check_runtime
from distill.models.text_head import TextOptions
from transferset.errors import UsageError
from transferset.images import MAX_PIXELS

FROZEN, LP_FT, FULL, PARTIAL = "head", "lp-ft", "full", "partial"
MODES = {
    FROZEN: "the backbone stays as it is",
    LP_FT: "the chosen head first, then everything from there",
    FULL: "everything at once, from a head that knows nothing, or the class names",
    PARTIAL: "the chosen head first, then the last blocks with it",
}
AUTO, PROBE, TEXT = "auto", "probe", "text"
INITS = (AUTO, PROBE, TEXT)
EPOCHS, LR, LAYER_DECAY, BATCH_SIZE = 20.0, 2e-4, 0.8, 32


@dataclass(frozen=True)
class Tuning:
    """How the backbone is finetuned, if at all.

    `mode`: one of MODES. `plan`: its length and pace, short by default. `blocks`: how many of the last learn
    in `partial`. `layer_decay`: share of a layer's learning rate that the one before it gets. `retention`:
    weight of the divergence from what the frozen teacher says of the same views.
    """

    mode: str = FROZEN
    plan: Plan = field(default_factory=lambda: Plan(batch_size=BATCH_SIZE))
    blocks: int = 1
    layer_decay: float = LAYER_DECAY
    retention: float = 0.0
    augment: str = "standard"


@dataclass(frozen=True)
class AdaptOptions:
    """What `distill adapt` is given.

    `teacher`: a model spec. `image_size`: of the teacher's input, by default the model's own. `flip`: the
    head also learns from mirrored images. `class_weight`: `none` or `balanced` (every class counts the same,
    for rare ones). `folds`: of the cross-validation where val does not decide. `drop_near_copies`: leave out
    training images that look like val or test images (exact copies go in any case). `max_error_rate`: share
    of unreadable images that is an error. `init`: what the head starts from: `probe` the labels alone, `text`
    also the names of the classes, in the sentences of the field `text`, `auto` those where the model has a
    trained text tower.
    """

    data: Path
    teacher: str
    out: Path
    image_size: int | None = None
    flip: bool = True
    class_weight: str = "none"
    folds: int = 5
    drop_near_copies: bool = False
    seed: int = 0
    runtime: str = "auto"
    precision: str = "auto"
    batch_size: int = 64
    max_pixels: int = MAX_PIXELS
    max_error_rate: float | None = None
    execution: Execution = field(default_factory=Execution)
    init: str = AUTO
    text: TextOptions = field(default_factory=TextOptions)
    tuning: Tuning = field(default_factory=Tuning)


@dataclass(frozen=True)
class AdaptReport:
    """The result of `distill adapt`, as `report.json` holds it.

    `images`: how many of each split were used; `dropped`: how many were unreadable. `trials`: the grid of
    heads on the frozen model; `strength` of the chosen one (0: the class names alone), `text`: their
    share in it. `candidates`: that
    head (step 0) and, if the backbone was tuned, what it was after some steps, `chosen` being the place of
    what is kept. `estimate`: the metrics of `distill.metrics` on the held-out images that `judged_on` names,
    for the temperature that is kept; `val`: the same on a val split that was too small to judge.
    `calibration`: nll and ece before and after.
    """

    out: str
    classes: int
    images: dict[str, int]
    dropped: int
    trials: list[dict[str, float]]
    strength: float
    temperature: float
    judged_on: str
    estimate: dict[str, Any]
    calibration: dict[str, float]
    val: dict[str, Any] | None
    runtime: dict[str, Any]
    costs: dict[str, Any]
    fingerprint: str
    text: float = 0.0
    tune: str = FROZEN
    candidates: list[dict[str, Any]] = field(default_factory=list)
    chosen: int = 0
    skipped_steps: int = 0


def check(options: AdaptOptions) -> None:
    """UsageError for options that cannot be, or don't fit each other."""
    check_runtime(options.runtime)
    check_precision(options.precision)
    if options.class_weight not in CLASS_WEIGHTS:
        raise UsageError(
            f"unknown --class-weight {options.class_weight!r}", hint=f"one of: {', '.join(CLASS_WEIGHTS)}"
        )
    if options.folds < 2:
        raise UsageError(f"--folds {options.folds} must be at least 2")
    if options.batch_size < 1:
        raise UsageError(f"--batch-size {options.batch_size} must be positive")
    if options.init not in INITS:
        raise UsageError(f"unknown --init {options.init!r}", hint=f"one of: {', '.join(INITS)}")
    if options.init == PROBE and options.text != TextOptions():
        raise UsageError("--templates and --class-names are for --init text", hint="leave them out")
    _check_tuning(options.tuning)


def _check_tuning(tuning: Tuning) -> None:
    if tuning.mode not in MODES:
        choices = "; ".join(f"{name} ({what})" for name, what in MODES.items())
        raise UsageError(f"unknown --tune {tuning.mode!r}", hint=f"one of: {choices}")
    if not 0 < tuning.layer_decay <= 1:
        raise UsageError(f"--layer-decay {tuning.layer_decay} must be above 0 and at most 1")
    if not 0 <= tuning.retention < math.inf:
        raise UsageError(f"--retention {tuning.retention} must not be negative or infinite")
    if tuning.blocks < 1:
        raise UsageError(f"--blocks {tuning.blocks} must be at least 1")
    augmentation(tuning.augment)
    if tuning.mode == FROZEN and tuning != Tuning():
        raise UsageError(
            f"{_given(tuning)} is for finetuning, and the backbone is to stay frozen",
            hint=f"add --tune {LP_FT}, {FULL} or {PARTIAL}, or leave it out",
        )
    if tuning.mode != PARTIAL and tuning.blocks != Tuning.blocks:
        raise UsageError("--blocks is for --tune partial", hint="leave it out")


def _given(tuning: Tuning) -> str:
    """The options that were given, as the command line calls them."""
    plain = Tuning()
    old, new = ({**asdict(one), **asdict(one.plan)} for one in (plain, tuning))
    names = [name for name in new if new[name] != old[name] and name not in ("plan", "mode")]
    return ", ".join("--" + {"batch_size": "train-batch-size"}.get(n, n.replace("_", "-")) for n in names)
