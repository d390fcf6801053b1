"""Several students that take every step together: one pass over the data and the teacher."""

import contextlib
import time
from collections.abc import Callable, Generator, Sequence

from distill.data.batches import Batch
from distill.loop.stop import stop_requests
from distill.loop.trainer import Trainer
from transferset.errors import InterruptedRun
from transferset.progress import progress


def train_together(trainers: Sequence[Trainer], stream: Callable[[int], Generator[Batch]]) -> None:
    """Train students to the end on the batches of `stream` (see `Hooks`), trainer i on what its student sees
    of them. All must have as many steps.

    Resumes from the newest step that all have a checkpoint of. What reading and teacher cost stands in the
    ledger of the first. Raises as `Trainer.run` does.
    """
    end, size = trainers[0].recipe.end, trainers[0].recipe.batch_size
    assert all(trainer.recipe.end == end and trainer.recipe.patience == 0 for trainer in trainers)
    begun = common_step(trainers)
    for trainer in trainers:
        trainer.resume(at_most=begun)
    bar_of = progress(f"train {len(trainers)} students", end * size, "images", initial=begun * size)
    with stop_requests() as stop, bar_of as bar, contextlib.closing(stream(begun)) as batches:
        for trainer in trainers:
            trainer.window.restart()
        for step in range(begun, end):
            start = time.perf_counter()
            batch = next(batches)
            waited = time.perf_counter() - start
            trainers[0].ledger.add("wait", size, waited)
            bar.advance(size)
            for number, trainer in enumerate(trainers):
                trainer.window.waited(waited)
                trainer.train_step(batch.of_student(number))
            for trainer in trainers:
                trainer.after_step(bar)
            if stop.asked and step + 1 < end:
                for trainer in trainers:
                    trainer.save()
                raise InterruptedRun(
                    f"stopped at step {step + 1} of {end}", hint="re-run the same command to resume"
                )


def common_step(trainers: Sequence[Trainer]) -> int:
    """The newest step that every trainer has a valid checkpoint of; 0 if there is none."""
    step: int | None = None
    while True:
        found = [trainer.checkpoints.newest(step) for trainer in trainers]
        steps = {int(one[1]["at"]["step"]) if one else 0 for one in found}
        if len(steps) == 1:
            return steps.pop()
        step = min(steps)
