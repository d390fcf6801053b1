"""The length of a run and its pace, as the user gives them, and as steps."""

import math
from dataclasses import dataclass

from distill.loop.recipe import Recipe
from transferset.errors import UsageError

EVALUATIONS = 10
MOST_STEPS = 2**31 - 1


@dataclass(frozen=True)
class Plan:
    """`steps` or `epochs`, `lr` (None: the stage's default); `eval_every` and `checkpoint_every` in steps
    (None: ten times a run, at most 500 steps between checkpoints); `patience`: evaluations without
    improvement that end the run; `accumulate`: parts that a batch is computed in, one after another."""

    steps: int | None = None
    epochs: float | None = None
    batch_size: int = 64
    lr: float | None = None
    weight_decay: float = 0.05
    eval_every: int | None = None
    checkpoint_every: int | None = None
    patience: int = 0
    accumulate: int = 1

    def __post_init__(self) -> None:
        if self.steps is not None and self.epochs is not None:
            raise UsageError("--steps and --epochs were both given", hint="give one of them")
        for name in ("steps", "epochs", "batch_size", "lr"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"--{name.replace('_', '-')} {value} must be positive and finite")
        for name in ("weight_decay", "eval_every", "checkpoint_every", "patience"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise UsageError(f"--{name.replace('_', '-')} {value} must not be negative or infinite")
        if not 1 <= self.accumulate <= self.batch_size:
            raise UsageError(
                f"--accumulate {self.accumulate} with --batch-size {self.batch_size}",
                hint="a batch has at least 1 part, and at most as many as images",
            )

    def recipe(self, samples: int, default_epochs: float, default_lr: float, seed: int) -> Recipe:
        """In steps, for a list of this many samples."""
        steps = self.steps or max(1, math.ceil((self.epochs or default_epochs) * samples / self.batch_size))
        if steps > MOST_STEPS:
            raise UsageError(
                f"{steps:.1e} steps of {self.batch_size} images are more than {MOST_STEPS:,}",
                hint="give fewer --steps or --epochs",
            )
        every = max(1, math.ceil(steps / EVALUATIONS))
        return Recipe(
            steps=steps,
            batch_size=self.batch_size,
            lr=self.lr or default_lr,
            weight_decay=self.weight_decay,
            eval_every=every if self.eval_every is None else self.eval_every,
            checkpoint_every=min(500, every) if self.checkpoint_every is None else self.checkpoint_every,
            log_every=min(25, every),
            patience=self.patience,
            seed=seed,
            accumulate=self.accumulate,
        )
