"""`distill students`: timm models that are small and fast enough, measured here."""

import fnmatch
from dataclasses import dataclass, field

import numpy as np

from distill.export.speed import machine, run_seconds, tell_if_busy
from distill.loop.execution import Execution, torch_threads
from distill.models.flops import flops_per_image
from distill.task import CLASSIFICATION, Task
from transferset.cores import available_cores
from transferset.errors import TransfersetError, UsageError
from transferset.progress import progress

SHORTLIST = (
    "mobilenetv3_small_050",
    "mobilenetv3_small_075",
    "mobilenetv3_small_100",
    "mobilenetv3_large_100",
    "mobilenetv4_conv_small_050",
    "mobilenetv4_conv_small",
    "mobilenetv4_conv_medium",
    "lcnet_050",
    "lcnet_100",
    "tinynet_e",
    "tinynet_c",
    "tinynet_a",
    "tf_efficientnet_lite0",
    "efficientnet_b0",
    "ghostnet_100",
    "regnety_002",
    "regnety_004",
    "repvgg_a0",
    "resnet10t",
    "resnet18",
    "repvit_m0_9",
    "efficientvit_b0",
    "mobilevit_xxs",
    "edgenext_xx_small",
    "convnext_atto",
    "fastvit_t8",
    "levit_128s",
    "vit_tiny_patch16_224",
)
"""Families that are common on small devices, from 0.4 to 12 million parameters."""

_SECONDS = 0.5


@dataclass(frozen=True)
class StudentsOptions:
    """What `distill students` is given: limits (None: none), the side of the input (None: each model's own),
    the number of `classes` that size the classifier, and globs of timm names instead of the shortlist."""

    max_ms: float | None = None
    max_mb: float | None = None
    image_size: int | None = None
    classes: int = 10
    match: tuple[str, ...] = ()
    execution: Execution = field(default_factory=Execution)


@dataclass(frozen=True)
class StudentFacts:
    """One model: parameters, `mb` (megabytes of them in float32), FLOPs of an image, and the latency of one
    image in eager torch (the fastest run). `weights`: whether timm's hub has pretrained ones."""

    name: str
    image_size: int
    parameters: int
    mb: float
    flops: float
    latency_ms: float
    weights: bool


@dataclass(frozen=True)
class StudentsReport:
    """The models within the limits, fastest first; how many were too large or too slow, and why others
    cannot be used, by name."""

    students: list[StudentFacts]
    too_large: int
    too_slow: int
    unusable: dict[str, str]
    machine: dict[str, str | int]


def students(options: StudentsOptions, task: Task = CLASSIFICATION) -> StudentsReport:
    """Build and time models with random weights; nothing is downloaded.

    Raises UsageError for a glob that matches no timm model, or limits that are not positive.
    """
    from transferset.models.runtime import resolve_device

    if any(limit is not None and not limit > 0 for limit in (options.max_ms, options.max_mb)):
        raise UsageError("--max-ms and --max-mb must be positive")
    names = _names(options.match)
    device = resolve_device(options.execution.device)
    threads = options.execution.threads or available_cores()
    tell_if_busy()
    kept: list[StudentFacts] = []
    unusable: dict[str, str] = {}
    too_large = too_slow = 0
    with torch_threads(threads), progress("measure", len(names), "models") as bar:
        for name in names:
            bar.note(name)
            try:
                facts = _measure(name, options, task, device)
            except TransfersetError as error:
                unusable[name] = error.message
            else:
                if options.max_mb is not None and facts.mb > options.max_mb:
                    too_large += 1
                elif options.max_ms is not None and facts.latency_ms > options.max_ms:
                    too_slow += 1
                else:
                    kept.append(facts)
            bar.advance()
    kept.sort(key=lambda facts: facts.latency_ms)
    where = machine(threads) if device == "cpu" else {**machine(threads), "processor": device}
    return StudentsReport(kept, too_large, too_slow, unusable, where)


def _names(match: tuple[str, ...]) -> list[str]:
    import timm

    known = timm.list_models()
    if not match:
        return [name for name in SHORTLIST if name in known]
    found = [name for name in known if any(fnmatch.fnmatchcase(name, glob) for glob in match)]
    if not found:
        raise UsageError(f"no timm model is named {' or '.join(match)}", hint="for instance 'mobilenetv3_*'")
    return found


def _measure(name: str, options: StudentsOptions, task: Task, device: str) -> StudentFacts:
    """The latency is not measured (and infinite) where the model is too large anyway."""
    import timm

    classes = tuple(str(number) for number in range(options.classes))
    student = task.build_student(f"timm:{name}@none", classes, options.image_size, 0)
    student.module.eval().requires_grad_(False)
    size = student.preprocessing.size
    parameters = sum(parameter.numel() for parameter in student.module.parameters())
    megabytes, latency = 4 * parameters / 1e6, float("inf")
    flops = flops_per_image(student.module, size, backward=False)
    if options.max_mb is None or megabytes <= options.max_mb:
        student.module.to(device)
        image = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
        latency = 1000 * min(run_seconds(lambda: student.logits(image, 1), _SECONDS))
    pretrained = bool(timm.is_model_pretrained(name))
    return StudentFacts(name, size, parameters, megabytes, flops, latency, pretrained)
