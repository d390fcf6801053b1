import math
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from distill.data.batches import Batch
from distill.loop.checkpoints import Checkpoints
from distill.loop.ledger import Ledger
from distill.loop.recipe import HeadFirst, Recipe
from distill.loop.trainer import Hooks, Trainer
from distill.models.student import Student
from transferset.errors import InterruptedRun, NumericError
from transferset.models.preprocessing import Preprocessing

SMALL = Preprocessing(8, "shortest", 1.0, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
COUNT = np.zeros(4, dtype=np.int64)


class Toy(nn.Sequential):
    """Its last layer is its classifier."""

    def get_classifier(self) -> nn.Module:
        return self[-1]


def _student() -> Student:
    """Convolution, batch norm and dropout: buffers, memory formats and random numbers all matter."""
    torch.manual_seed(0)
    module = Toy(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(288, 2)
    )
    return Student(module.to(memory_format=torch.channels_last), SMALL, ("a", "b"), "toy")


def _batch(step: int) -> Batch:
    rng = np.random.default_rng(step)
    images = rng.integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    labels = (images[..., 0].mean(axis=(1, 2)) > images[..., 1].mean(axis=(1, 2))).astype(np.int64)
    return Batch(step, COUNT, COUNT, COUNT + step, images, COUNT > 0, targets=labels)


def _trainer(
    directory: Path, recipe: Recipe, log: list[dict[str, Any]] | None = None, **hooks: Any
) -> Trainer:
    def stream(step: int) -> Generator[Batch]:
        yield from map(_batch, range(step, recipe.steps))

    lines: list[dict[str, Any]] = [] if log is None else log
    given = {"stream": stream, "method": nn.functional.cross_entropy, "log": lines.append, **hooks}
    return Trainer(_student(), recipe, Hooks(**given), Checkpoints(directory), Ledger())


def _weights(trainer: Trainer) -> list[torch.Tensor]:
    return [*trainer.module.state_dict().values(), *trainer.average.module.state_dict().values()]


RECIPE = Recipe(steps=30, batch_size=4, lr=0.01, checkpoint_every=10, log_every=5)


def test_it_learns_and_logs(tmp_path: Path) -> None:
    log: list[dict[str, Any]] = []
    recipe = Recipe(steps=300, batch_size=4, lr=0.01, log_every=50)
    trainer = _trainer(tmp_path, recipe, log)
    at = trainer.run()
    assert at.step == 300 and [entry["step"] for entry in log] == [50, 100, 150, 200, 250, 300]
    assert log[-1]["loss"] < 0.7 * log[0]["loss"] and log[-1]["images_seen"] == 1200
    assert trainer.ledger.stages["student"].images == 1200 and trainer.ledger.stages["student"].flops > 0


@pytest.mark.parametrize("stop", [10, 17])
def test_a_stopped_run_goes_on_bitwise_as_if_nothing_had_been(tmp_path: Path, stop: int) -> None:
    whole = _trainer(tmp_path / "whole", RECIPE)
    whole.run()

    def until_stop(step: int) -> Generator[Batch]:
        yield from map(_batch, range(step, stop))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _trainer(tmp_path / "parts", RECIPE, stream=until_stop).run()
    resumed: list[int] = []
    second = _trainer(tmp_path / "parts", RECIPE, rewind=resumed.append)
    second.run()
    assert resumed == [10]
    assert all(torch.equal(a, b) for a, b in zip(_weights(whole), _weights(second), strict=True))
    assert second.ledger.stages["student"].images == 120


def test_stop_request_saves_and_raises(tmp_path: Path) -> None:
    import os
    import signal

    def stream(step: int) -> Generator[Batch]:
        for number in range(step, 30):
            if number == 7:
                os.kill(os.getpid(), signal.SIGTERM)
            yield _batch(number)

    with pytest.raises(InterruptedRun, match="step 8 of 30"):
        _trainer(tmp_path, RECIPE, stream=stream).run()
    again = _trainer(tmp_path, RECIPE)
    again.resume()
    assert again.at.step == 8


def _failing(*failures: int) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    calls = iter(range(10**6))

    def method(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        loss = nn.functional.cross_entropy(outputs, targets)
        return loss * math.nan if next(calls) in failures else loss

    return method


def test_a_step_that_is_not_finite_is_skipped(tmp_path: Path) -> None:
    log: list[dict[str, Any]] = []
    trainer = _trainer(tmp_path, RECIPE, log, method=_failing(3, 4, 9))
    seen: list[list[torch.Tensor]] = []
    step = trainer.train_step

    def watched(batch: Batch) -> None:
        step(batch)
        seen.append([tensor.clone() for tensor in _weights(trainer)])

    trainer.train_step = watched  # type: ignore[method-assign]
    at = trainer.run()
    assert at.skipped == 3 and at.skipped_in_row == 0 and at.step == 30
    for failed in (3, 4, 9):
        assert all(torch.equal(a, b) for a, b in zip(seen[failed - 1], seen[failed], strict=True))
    events = [entry for entry in log if entry.get("event") == "skipped"]
    assert [(entry["step"], entry["samples"][0]) for entry in events] == [(4, 3), (5, 4), (10, 9)]


def test_three_in_a_row_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(NumericError, match="3 steps in a row, at 8"):
        _trainer(tmp_path, RECIPE, method=_failing(5, 6, 7)).run()


def test_the_best_score_is_kept_and_patience_ends_the_run(tmp_path: Path) -> None:
    scores = iter([0.2, 0.6, 0.5, 0.6, 0.1, 0.9])
    kept: list[dict[str, torch.Tensor]] = []

    def score(module: nn.Module) -> float:
        kept.append({name: tensor.clone() for name, tensor in module.state_dict().items()})
        return next(scores)

    recipe = Recipe(steps=30, batch_size=4, lr=0.01, eval_every=5, patience=3)
    trainer = _trainer(tmp_path, recipe, score=score)
    at = trainer.run()
    assert at.step == 25 and at.best() == (10, 0.6)
    assert all(torch.equal(tensor, kept[1][name]) for name, tensor in trainer.best_weights().items())
    again = _trainer(tmp_path, recipe, score=score)
    assert again.run().step == 25 and again.at.best() == (10, 0.6)
    assert all(torch.equal(tensor, kept[1][name]) for name, tensor in again.best_weights().items())


def test_a_run_of_no_steps_leaves_the_student_as_it_was(tmp_path: Path) -> None:
    trainer = _trainer(tmp_path, Recipe(steps=10, batch_size=4, lr=0.1, stop_at=0))
    trainer.run()
    weights = trainer.best_weights()
    assert all(torch.equal(weights[name], tensor) for name, tensor in _student().module.state_dict().items())


HEAD_FIRST = Recipe(steps=30, batch_size=4, lr=0.01, checkpoint_every=10, head=HeadFirst(12, 0.1))


def test_the_head_alone_is_trained_first(tmp_path: Path) -> None:
    """Neither weights nor running statistics of the backbone change meanwhile."""
    start, trainer = _student().module.state_dict(), _trainer(tmp_path, HEAD_FIRST)
    for step in range(13):
        trainer.train_step(_batch(step))
        changed = {name for name, t in trainer.module.state_dict().items() if not torch.equal(t, start[name])}
        assert (changed == {"5.weight", "5.bias"}) is (step < 12)
    assert "1.running_mean" in changed and all(p.requires_grad for p in trainer.module.parameters())
    assert trainer.ledger.stages["student"].flops == 4 * (12 * trainer.forward_flops + trainer.flops)


@pytest.mark.parametrize("stop", [10, 17])
def test_head_first_resumes_bitwise(tmp_path: Path, stop: int) -> None:
    whole = _trainer(tmp_path / "whole", HEAD_FIRST)
    whole.run()
    first = _trainer(tmp_path / "parts", replace(HEAD_FIRST, checkpoint_every=0, stop_at=stop))
    first.run()
    second = _trainer(tmp_path / "parts", HEAD_FIRST)
    second.run()
    assert all(torch.equal(a, b) for a, b in zip(_weights(whole), _weights(second), strict=True))
