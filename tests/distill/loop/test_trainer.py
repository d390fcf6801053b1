import math
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from distill.data.batches import Batch
from distill.loop.ledger import Ledger
from distill.loop.recipe import HeadFirst, Recipe
from tests.distill.loop.toys import batch_of, same, student, trainer_of, weights_of
from transferset.errors import InterruptedRun, NumericError

RECIPE = Recipe(steps=30, batch_size=4, lr=0.01, checkpoint_every=10, log_every=5)


def test_it_learns_and_logs(tmp_path: Path) -> None:
    log: list[dict[str, Any]] = []
    recipe = Recipe(steps=300, batch_size=4, lr=0.01, log_every=50)
    trainer = trainer_of(tmp_path, recipe, log)
    at = trainer.run()
    assert at.step == 300 and [entry["step"] for entry in log] == [50, 100, 150, 200, 250, 300]
    assert log[-1]["loss"] < 0.7 * log[0]["loss"] and log[-1]["images_seen"] == 1200
    assert trainer.ledger.stages["student"].images == 1200 and trainer.ledger.stages["student"].flops > 0


@pytest.mark.parametrize("stop", [10, 17])
def test_a_stopped_run_goes_on_bitwise_as_if_nothing_had_been(tmp_path: Path, stop: int) -> None:
    whole = trainer_of(tmp_path / "whole", RECIPE)
    whole.run()

    def until_stop(step: int) -> Generator[Batch]:
        yield from map(batch_of, range(step, stop))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer_of(tmp_path / "parts", RECIPE, stream=until_stop).run()
    resumed: list[int] = []
    second = trainer_of(tmp_path / "parts", RECIPE, rewind=resumed.append)
    second.run()
    assert resumed == [10]
    assert same(whole, second)
    assert second.ledger.stages["student"].images == 120


def test_stop_request_saves_and_raises(tmp_path: Path) -> None:
    import os
    import signal

    def stream(step: int) -> Generator[Batch]:
        for number in range(step, 30):
            if number == 7:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch_of(number)

    with pytest.raises(InterruptedRun, match="step 8 of 30"):
        trainer_of(tmp_path, RECIPE, stream=stream).run()
    again = trainer_of(tmp_path, RECIPE)
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
    trainer = trainer_of(tmp_path, RECIPE, log, method=_failing(3, 4, 9))
    seen: list[list[torch.Tensor]] = []
    step = trainer.train_step

    def watched(batch: Batch) -> None:
        step(batch)
        seen.append([tensor.clone() for tensor in weights_of(trainer)])

    trainer.train_step = watched  # type: ignore[method-assign]
    at = trainer.run()
    assert at.skipped == 3 and at.skipped_in_row == 0 and at.step == 30
    for failed in (3, 4, 9):
        assert all(torch.equal(a, b) for a, b in zip(seen[failed - 1], seen[failed], strict=True))
    events = [entry for entry in log if entry.get("event") == "skipped"]
    assert [(entry["step"], entry["samples"][0]) for entry in events] == [(4, 3), (5, 4), (10, 9)]


def test_three_in_a_row_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(NumericError, match="3 steps in a row, at 8"):
        trainer_of(tmp_path, RECIPE, method=_failing(5, 6, 7)).run()


def test_the_best_score_is_kept_and_patience_ends_the_run(tmp_path: Path) -> None:
    scores = iter([0.2, 0.6, 0.5, 0.6, 0.1, 0.9])
    kept: list[dict[str, torch.Tensor]] = []

    def score(module: nn.Module) -> float:
        kept.append({name: tensor.clone() for name, tensor in module.state_dict().items()})
        return next(scores)

    recipe = Recipe(steps=30, batch_size=4, lr=0.01, eval_every=5, patience=3)
    trainer = trainer_of(tmp_path, recipe, score=score)
    at = trainer.run()
    assert at.step == 25 and at.best() == (10, 0.6)
    assert all(torch.equal(tensor, kept[1][name]) for name, tensor in trainer.best_weights().items())
    again = trainer_of(tmp_path, recipe, score=score)
    assert again.run().step == 25 and again.at.best() == (10, 0.6)
    assert all(torch.equal(tensor, kept[1][name]) for name, tensor in again.best_weights().items())


def test_what_the_teacher_did_during_an_evaluation_is_in_no_line(tmp_path: Path) -> None:
    """A line is about the steps since the last evaluation; a teacher can't be busy longer than that."""
    log: list[dict[str, Any]] = []
    last = time.perf_counter()

    def always_busy(ledger: Ledger) -> None:
        nonlocal last
        now = time.perf_counter()
        ledger.add("teacher", seconds=now - last)
        last = now

    def score(module: nn.Module) -> float:
        time.sleep(0.5)
        return 0.5

    recipe = Recipe(steps=10, batch_size=4, lr=0.01, log_every=5, eval_every=4, checkpoint_every=3)
    trainer = trainer_of(tmp_path, recipe, log, score=score, collect=always_busy)
    trainer.run()
    shares = [entry["teacher_percent"] for entry in log if "teacher_percent" in entry]
    assert len(shares) == 2 and all(50 < share < 120 for share in shares)


def test_a_run_of_no_steps_leaves_the_student_as_it_was(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, Recipe(steps=10, batch_size=4, lr=0.1, stop_at=0))
    trainer.run()
    weights = trainer.best_weights()
    assert all(torch.equal(weights[name], tensor) for name, tensor in student().module.state_dict().items())


HEAD_FIRST = Recipe(steps=30, batch_size=4, lr=0.01, checkpoint_every=10, head=HeadFirst(12, 0.1))


def test_the_head_alone_is_trained_first(tmp_path: Path) -> None:
    """Neither weights nor running statistics of the backbone change meanwhile."""
    start, trainer = student().module.state_dict(), trainer_of(tmp_path, HEAD_FIRST)
    for step in range(13):
        trainer.train_step(batch_of(step))
        changed = {name for name, t in trainer.module.state_dict().items() if not torch.equal(t, start[name])}
        assert (changed == {"5.weight", "5.bias"}) is (step < 12)
    assert "1.running_mean" in changed and all(p.requires_grad for p in trainer.module.parameters())
    assert trainer.ledger.stages["student"].flops == 4 * (12 * trainer.forward_flops + trainer.flops)


@pytest.mark.parametrize("stop", [10, 17])
def test_head_first_resumes_bitwise(tmp_path: Path, stop: int) -> None:
    whole = trainer_of(tmp_path / "whole", HEAD_FIRST)
    whole.run()
    first = trainer_of(tmp_path / "parts", replace(HEAD_FIRST, checkpoint_every=0, stop_at=stop))
    first.run()
    second = trainer_of(tmp_path / "parts", HEAD_FIRST)
    second.run()
    assert same(whole, second)
