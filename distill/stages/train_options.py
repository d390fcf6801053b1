"""What `distill train` is given."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill.loop.execution import Execution
from distill.loop.plan import Plan
from distill.methods.transfer import TASK_ORIENTED
from distill.task import TOP1
from distill.teaching.combined import AVERAGE


@dataclass(frozen=True)
class TrainOptions:
    """What `distill train` is given.

    `data`: labelled images; those of its train split (all, without splits) are mixed in, repeated so that
    they make up about `labelled_share` of an epoch; its val split is scored regularly and the best student is
    kept. With a `label_weight` they teach by their labels too, through a second head (see `DualHead`); which
    head the final student has is chosen on val, and is the teacher's without. A `method` that matches
    features, by `feature_loss`, scores nothing on the way: the classifier is fitted at the end, on these
    labels. `feature_weight`: of the teacher's features beside its class probabilities, matched through a
    projection that the final student lacks. `views` K: the same K views of every image come again after K
    epochs, so that the teacher looks at each only once (0: new views every epoch). `temperature`: of the
    comparison, beyond the teacher's own fitted one (None: the method's default). `runtime`, `precision`: what
    the teacher runs on. `labels_from`: a store of `distill label`, which takes the teacher's place and says
    which views there are; a `teacher` that is given too must be the one that labelled; to match features it
    must hold them (`distill label --features`). `metric`: what is scored, `top1` or
    `balanced_accuracy`, with which a linear probe counts every class the same, too.
    `drop_near_copies`: leave out training images of `data` that look like val or test images.

    Several teachers (or stores) are combined as `combine` says: `average` their probabilities, or give the
    student `heads`, one for each; `teacher_weights` say what each counts. `teacher_flip`: a teacher looks at
    every view and its mirror image, and the probabilities are averaged. With `heads` the run holds the first
    teacher's student, and in `heads/NAME` one for each teacher, all with the same backbone; val does not
    choose among their steps, since it knows one task only, and scores the student at the end.

    `from_run`: a finished run that the student goes on from, in place of `student`; a head of the run is
    taken over by the teacher that has the same classes. `head_epochs` and `backbone_lr_scale` as in finetune.
    """

    shards: tuple[str | Path, ...]
    teacher: Path | tuple[Path, ...] | None
    student: str | None
    out: Path
    data: Path | None = None
    method: str = TASK_ORIENTED
    feature_loss: str | None = None
    feature_weight: float = 0.0
    image_size: int | None = None
    plan: Plan = field(default_factory=Plan)
    views: int | None = None
    augment: str | None = None
    temperature: float | None = None
    labelled_share: float = 0.1
    drop_near_copies: bool = False
    seed: int = 0
    runtime: str = "auto"
    labels_from: Path | tuple[Path, ...] | None = None
    precision: str = "auto"
    label_weight: float = 0.0
    combine: str = AVERAGE
    teacher_weights: tuple[float, ...] = ()
    teacher_flip: bool = False
    from_run: Path | None = None
    head_epochs: float = 0.0
    backbone_lr_scale: float = 1.0
    metric: str = TOP1
    execution: Execution = field(default_factory=Execution)

    @property
    def teachers(self) -> tuple[Path, ...]:
        """All of `teacher`."""
        return _several(self.teacher)

    @property
    def stores(self) -> tuple[Path, ...]:
        """All of `labels_from`."""
        return _several(self.labels_from)


def _several(paths: Path | tuple[Path, ...] | None) -> tuple[Path, ...]:
    if paths is None:
        return ()
    return tuple(paths) if isinstance(paths, list | tuple) else (paths,)


def extended_arguments(options: TrainOptions) -> dict[str, Any]:
    """What config.json says of these options; None where a run goes as it did before there were any."""
    several = max(len(options.teachers), len(options.stores)) > 1
    return {
        "label_weight": options.label_weight or None,
        "combine": options.combine if several else None,
        "teacher_weights": list(options.teacher_weights) or None,
        "teacher_flip": options.teacher_flip or None,
        "feature_weight": options.feature_weight or None,
    }
