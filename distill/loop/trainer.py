"""The training loop. It knows batches, a method (student outputs, targets -> loss) and a score, nothing of
teachers."""

import contextlib
import math
import time
from collections.abc import Generator
from typing import TYPE_CHECKING

from distill.data.batches import Batch
from distill.loop.checkpoints import Checkpoints
from distill.loop.failed_steps import FailedSteps, failed_step
from distill.loop.gradients import Found, Gradients
from distill.loop.hooks import Hooks
from distill.loop.ledger import Ledger
from distill.loop.mode import PLAIN, Arithmetic, Mode
from distill.loop.optimizer import adamw, optimizer_tensors, restore_optimizer
from distill.loop.progression import Progression
from distill.loop.recipe import Recipe
from distill.loop.schedule import averaging_decay
from distill.loop.stop import stop_requests
from distill.loop.window import Window, note
from distill.models.flops import flops_per_image
from distill.models.student import Student, classifier_parameters
from transferset.console import say
from transferset.errors import InterruptedRun, NumericError
from transferset.progress import Progress, progress

if TYPE_CHECKING:
    from torch import Tensor

SKIPS_ALLOWED = 2


class Trainer:
    """Trains `student` in place and keeps a moving average of its weights, `average`, which is what is
    scored.

    `run` resumes from the newest of `checkpoints` if there is one: on a CPU with the same number of threads
    the result is bitwise that of an undisturbed run, since everything random is a function of (seed, step).
    Only a batch that had to be divided, because the memory did not suffice for it, may come out otherwise.
    """

    def __init__(
        self,
        student: Student,
        recipe: Recipe,
        hooks: Hooks,
        checkpoints: Checkpoints,
        ledger: Ledger,
        mode: Mode = PLAIN,
    ) -> None:
        from distill.loop.average import Average

        self.student = student
        self.module = student.module
        self.recipe = recipe
        self.hooks = hooks
        self.checkpoints = checkpoints
        self.ledger = ledger
        self.arithmetic = Arithmetic(self.module, mode)
        self.gradients = Gradients(
            student, self.arithmetic, hooks.method, parts=recipe.accumulate, divisible=hooks.divisible
        )
        self.average = Average(self.module, averaging_decay(recipe.steps))
        self.head = classifier_parameters(student) if recipe.head else frozenset()
        scale = recipe.head.backbone_lr_scale if recipe.head else 1.0
        self.optimizer = adamw(
            self.module,
            recipe.lr,
            recipe.weight_decay,
            head=self.head,
            backbone_lr_scale=scale,
            layer_decay=recipe.layer_decay,
        )
        self.flops = flops_per_image(self.module, student.preprocessing.size, backward=True)
        self.forward_flops = flops_per_image(self.module, student.preprocessing.size, backward=False)
        self.at = Progression()
        self.window = Window()

    def run(self) -> Progression:
        """Train to the end; raises InterruptedRun after SIGINT or SIGTERM, NumericError when steps keep
        failing."""
        self.resume()
        feed = contextlib.closing(self.hooks.stream(self.at.step))
        with stop_requests() as stop, self._progress() as bar, feed as batches:
            self.window.restart()
            while not self._done():
                self.train_step(self._next(batches))
                bar.advance(self.recipe.batch_size)
                self.after_step(bar)
                if stop.asked and not self._done():
                    self.stop()
        return self.at

    def stop(self) -> None:
        """Save and leave."""
        self.save()
        where = f"stopped at step {self.at.step} of {self.recipe.end}"
        raise InterruptedRun(where, hint="re-run the same command to resume")

    def _next(self, batches: Generator[Batch]) -> Batch:
        start = time.perf_counter()
        batch = next(batches)
        waited = time.perf_counter() - start
        self.ledger.add("wait", len(batch.images), waited)
        self.window.waited(waited)
        return batch

    def train_step(self, batch: Batch) -> None:
        """One update. A step whose loss or gradient is not finite changes nothing but the counters."""
        recipe, step, images = self.recipe, self.at.step, len(batch.images)
        rate, head_only, parts = recipe.rate(step), step < recipe.head_steps, self.gradients.parts
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        flops = self.forward_flops if head_only else self.flops
        with self.ledger.timed("student", images, images * flops), self._frozen_backbone(head_only):
            if self.module.training is head_only:
                self.module.train(not head_only)
            found = self.gradients.of(batch, self._seed(step), self.optimizer, recipe.clip)
            if found.finite:
                self.optimizer.step()
                self.average.update(self.module, step=step + 1)
        self.at.step += 1
        if self.gradients.parts > parts:
            self._tell_divided(images)
        if found.finite:
            self.at.skipped_in_row = 0
            self.window.count(images, found.loss, rate, found.norm)
        else:
            self._skip(batch, found, head_only)

    def _seed(self, step: int) -> int:
        return (self.recipe.seed << 32) + step

    @contextlib.contextmanager
    def _frozen_backbone(self, frozen: bool) -> Generator[None]:
        """Where `frozen`, only the classifier gets gradients."""
        parameters = self.module.named_parameters() if frozen else ()
        backbone = [p for name, p in parameters if name not in self.head]
        for parameter in backbone:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in backbone:
                parameter.requires_grad_(True)

    def _tell_divided(self, images: int) -> None:
        """The memory did not suffice for as many images at once as before."""
        step, parts = self.at.step, self.gradients.parts
        size = math.ceil(images / parts)
        self.at.divided.append((step, parts))
        self.hooks.log({"step": step, "event": "divided", "parts": parts, "images_at_once": size})
        say(
            f"out of memory in step {step}: from now on a batch is computed {size} images at a time"
            " (batch norm sees these only; batch size and learning rate stay)"
        )

    def _skip(self, batch: Batch, found: Found, head_only: bool) -> None:
        """Undo what the forward pass did to running statistics, keep the step; after a few in a row, give
        up."""
        self.gradients.undo()
        self.at.skipped += 1
        self.at.skipped_in_row += 1
        entry = {"step": self.at.step, "event": "skipped", "samples": batch.indices.tolist()}
        hint = "try a lower --lr; metrics.jsonl lists the samples of the skipped steps"
        if self.hooks.replay is not None:
            kept = FailedSteps(self.hooks.replay).keep(
                failed_step(
                    batch,
                    self.module.state_dict(),
                    found,
                    self.hooks.method,
                    step=self.at.step,
                    seed=self._seed(self.at.step - 1),
                    parts=self.gradients.parts,
                    clip=self.recipe.clip,
                    head_only=head_only,
                    mode=self.arithmetic.mode,
                )
            )
            entry["replay"] = kept.name
            hint = f"try a lower --lr; distill replay {kept} shows where the numbers go wrong"
        self.hooks.log(entry)
        if self.at.skipped_in_row > SKIPS_ALLOWED:
            raise NumericError(
                f"loss or gradient not finite in {self.at.skipped_in_row} steps in a row, at {self.at.step}",
                hint=hint,
            )

    def after_step(self, bar: Progress) -> None:
        """Log, score, save: whatever is due. The checkpoint comes last, so that it holds what was found."""
        recipe, last = self.recipe, self.at.step == self.recipe.end
        if last or self._due(recipe.log_every):
            self._log_window(bar)
        if self.hooks.score is not None and (last or self._due(recipe.eval_every)):
            self.evaluate()
        if self._done() or self._due(recipe.checkpoint_every):
            self.save()

    def evaluate(self) -> None:
        """Score the averaged weights; the best so far are kept."""
        assert self.hooks.score is not None
        score = self.hooks.score(self.average.module)
        self.at.scores.append((self.at.step, score))
        self.hooks.log({"step": self.at.step, "score": score})
        if self.at.since_best() == 0:
            self.checkpoints.save_best(self.at.step, self.average.module.state_dict())
        self._restart_window()

    def _due(self, every: int) -> bool:
        return every > 0 and self.at.step % every == 0

    def _done(self) -> bool:
        return self.at.step >= self.recipe.end or 0 < self.recipe.patience <= self.at.since_best()

    def save(self) -> None:
        """Write a checkpoint of everything that the next step depends on."""
        self.hooks.flush()
        self.hooks.collect(self.ledger)
        with self.ledger.timed("checkpoint"):
            tensors = {f"model.{name}": tensor for name, tensor in self.module.state_dict().items()}
            tensors |= {
                f"average.{name}": tensor for name, tensor in self.average.module.state_dict().items()
            }
            tensors |= {
                f"optimizer.{name}": t for name, t in optimizer_tensors(self.optimizer, self.module).items()
            }
            state = {
                "at": vars(self.at),
                "ledger": self.ledger.to_dict(),
                "arithmetic": self.arithmetic.state(),
            }
            best = self.at.best()
            self.checkpoints.save(self.at.step, tensors, state, best[0] if best else None)
        self._restart_window()

    def resume(self, at_most: int | None = None) -> None:
        """Take up the newest checkpoint (of step `at_most` or earlier), if there is one."""
        found = self.checkpoints.newest(at_most)
        if at_most is not None:
            self.checkpoints.forget_after(at_most)
        if found is not None:
            tensors, state = found
            self.module.load_state_dict(_part(tensors, "model."))
            self.average.module.load_state_dict(_part(tensors, "average."))
            restore_optimizer(self.optimizer, self.module, _part(tensors, "optimizer."))
            scores = [(int(step), float(score)) for step, score in state["at"].pop("scores")]
            divided = [(int(step), int(parts)) for step, parts in state["at"].pop("divided", [])]
            self.at = Progression(scores=scores, divided=divided, **state["at"])
            self.gradients.parts = divided[-1][1] if divided else self.recipe.accumulate
            self.arithmetic.restore(state.get("arithmetic", {}))
            self.ledger.stages.update(Ledger.from_dict(state["ledger"]).stages)
        self.hooks.rewind(self.at.step)

    def best_weights(self) -> dict[str, "Tensor"]:
        """The weights with the best score, or, where nothing is scored, the moving average as it is now."""
        best = self.at.best()
        if best is not None:
            return self.checkpoints.best(best[0])
        return self.average.module.state_dict()

    def _progress(self) -> contextlib.AbstractContextManager[Progress]:
        size = self.recipe.batch_size
        return progress(self.hooks.title, self.recipe.end * size, "images", initial=self.at.step * size)

    def _restart_window(self) -> None:
        """Leave out what has been since the last line of the log, also what reading and teacher did."""
        self.hooks.collect(self.ledger)
        self.window.restart()

    def _log_window(self, bar: Progress) -> None:
        """One line of metrics.jsonl about the steps since the last one, and a note for people."""
        earlier = {name: stage.seconds for name, stage in self.ledger.stages.items()}
        self.hooks.collect(self.ledger)
        busy: dict[str, float] = {}
        for name, stage in self.ledger.stages.items():
            kind = name.partition(" ")[0]  # of several teachers each has a stage: `teacher NAME`
            if kind in ("data", "teacher"):
                busy[kind] = busy.get(kind, 0.0) + stage.seconds - earlier.get(name, 0.0)
        entry = self.window.summary(busy)
        if entry is not None:
            self.hooks.log(
                {"step": self.at.step, **entry, "images_seen": self.at.step * self.recipe.batch_size}
            )
            bar.note(note(entry))
        self.window.restart()


def _part(tensors: dict[str, "Tensor"], prefix: str) -> dict[str, "Tensor"]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
