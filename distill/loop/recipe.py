"""How long and how fast a run trains, in steps."""

from dataclasses import asdict, dataclass
from typing import Any

from distill.loop.schedule import learning_rate


@dataclass(frozen=True)
class HeadFirst:
    """The first `steps` of a run train the classifier alone, on a schedule of their own, the rest of the
    model being as in evaluation; then the rest goes at `backbone_lr_scale` times the classifier's rate."""

    steps: int
    backbone_lr_scale: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """How long and how to train. Everything counts in steps.

    `steps`: length of the schedule; `stop_at`: end earlier, at this step of it; `warmup`: share of the steps;
    `clip`: largest norm of the gradient; `eval_every`, `checkpoint_every`, `log_every`: 0 is never (the end
    and an interruption always leave a checkpoint); `patience`: evaluations without a better score after which
    the run ends (0: never); `head`: if the classifier is treated differently, its steps being the first of
    `steps`; `accumulate`: parts that a batch is computed in, one after another; `layer_decay`: each layer
    learns at that share of the rate of the one behind it (None: all at the same).
    """

    steps: int
    batch_size: int
    lr: float
    weight_decay: float = 0.05
    warmup: float = 0.05
    clip: float = 1.0
    stop_at: int | None = None
    eval_every: int = 0
    checkpoint_every: int = 0
    log_every: int = 25
    patience: int = 0
    seed: int = 0
    head: HeadFirst | None = None
    accumulate: int = 1
    layer_decay: float | None = None

    def to_dict(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """As JSON: what decides the weights, and what a resumed run may change."""
        values = asdict(self)
        free = {name: values.pop(name) for name in ("checkpoint_every", "log_every")}
        values["accumulate"] = self.accumulate if self.accumulate > 1 else None
        return values, free

    def rate(self, step: int) -> float:
        """The learning rate of the step."""
        first = self.head_steps
        if step < first:
            return learning_rate(step, first, self.lr, self.warmup)
        return learning_rate(step - first, self.steps - first, self.lr, self.warmup)

    @property
    def head_steps(self) -> int:
        """The first steps, which train the classifier alone."""
        return self.head.steps if self.head else 0

    @property
    def end(self) -> int:
        """The step at which the run is over."""
        return self.steps if self.stop_at is None else self.stop_at
