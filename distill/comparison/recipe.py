"""The recipe of a comparison: what its YAML file says, as frozen values."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill.methods.transfer import PSEUDO_LABELS, TASK_AGNOSTIC, TASK_ORIENTED

TEACHER, LABELS_ONLY, PRETRAINED = "teacher", "labels-only", "pretrained"
TRANSFERS = (TASK_AGNOSTIC, TASK_ORIENTED, PSEUDO_LABELS)
METHODS = (LABELS_ONLY, PRETRAINED, *TRANSFERS)
OWN = "own"
ALL = "all"
STAGED, FULL = "staged", "full"


def budget(labels: str) -> str:
    """A label budget in words."""
    return "all" if labels == ALL else f"{labels} per class"


@dataclass(frozen=True)
class Teacher:
    """How a teacher is adapted; `options` are further ones of `distill adapt`, in the words of its command
    line, such as `tune`."""

    name: str
    spec: str
    image_size: int | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Student:
    """What is trained: `spec` in every row but `pretrained`, which starts from `pretrained`."""

    spec: str
    image_size: int | None = None
    pretrained: str | None = None


@dataclass(frozen=True)
class TransferSet:
    """A column. `path` may hold `{seed}` and `{labels}`, or is `own`: the task's training images without
    their labels. Sets of one `series` differ in size only; `methods`: those that use the set (None: all)."""

    name: str
    path: str
    series: str | None = None
    methods: tuple[str, ...] | None = None

    def at(self, labels: str, seed: int, root: Path) -> Path:
        """The path of one cell; relative ones start at `root`."""
        return root / Path(self.path.replace("{seed}", str(seed)).replace("{labels}", labels))


@dataclass(frozen=True)
class Schedule:
    """How students are trained on transfer sets: the options of `distill train`."""

    steps: int | None = None
    epochs: float | None = None
    batch_size: int = 64
    lr: float | None = None
    weight_decay: float = 0.05
    views: int = 8
    augment: str = "standard"
    labelled_share: float = 0.1
    temperature: float | None = None
    feature_loss: str | None = None
    feature_weight: float | None = None


@dataclass(frozen=True)
class Finetuning:
    """What follows a transfer: the options of `distill finetune`."""

    steps: int | None = None
    epochs: float | None = None
    batch_size: int = 64
    lr: float | None = None
    augment: str = "standard"
    label_smoothing: float = 0.1
    head_epochs: float = 0.0
    backbone_lr_scale: float = 1.0
    retention: float = 0.0


@dataclass(frozen=True)
class Grid:
    """The grid that a student on labels alone is tuned over, on val. `staged`: augmentations on the shorter
    schedules, then learning rates, then the longest schedule with the best of both; `full`: every
    combination."""

    steps: tuple[int, ...]
    augments: tuple[str, ...]
    lrs: tuple[float, ...]
    search: str = STAGED
    batch_size: int = 64


@dataclass(frozen=True)
class Recipe:
    """Everything that is compared. `labels`: images per class, or `all`; `costs`: of what is shared beyond
    this comparison, such as embedding the pool, by name."""

    source: Path
    task: Path
    labels: tuple[str, ...]
    seeds: tuple[int, ...]
    metric: str
    teachers: tuple[Teacher, ...]
    student: Student
    transfer_sets: tuple[TransferSet, ...]
    methods: tuple[str, ...]
    schedule: Schedule
    finetuning: Finetuning | None
    labels_only: Grid
    pretrained: Grid
    runtime: str = "auto"
    costs: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """Where relative paths start: the recipe's folder."""
        return self.source.parent
