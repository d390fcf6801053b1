"""Steps in other precisions and memory formats."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from distill.loop.mode import PLAIN, Arithmetic, Mode, check_mode
from distill.loop.recipe import Recipe
from tests.distill.loop.toys import batch_of, same, student, trainer_of
from transferset.errors import UsageError

RECIPE = Recipe(steps=60, batch_size=4, lr=0.01, checkpoint_every=20, log_every=20)
MODES = [Mode("bf16"), Mode("fp16"), Mode("fp32", channels_last=False), Mode("bf16", channels_last=False)]


def test_it_goes_through_json() -> None:
    for mode in (PLAIN, *MODES):
        assert Mode.from_dict(mode.to_dict()) == mode
    assert Mode.from_dict(None) == PLAIN
    assert str(Mode("bf16", False, True)) == "bf16, contiguous, compiled"


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_the_loss_is_float32_and_falls(tmp_path: Path, mode: Mode) -> None:
    kinds, log = set(), list[dict[str, Any]]()

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        kinds.add(outputs.dtype)
        return nn.functional.cross_entropy(outputs, targets)

    trainer = trainer_of(tmp_path, Recipe(300, 4, 0.01, log_every=100), log, mode=mode, method=loss)
    assert trainer.run().skipped == 0
    assert kinds == {torch.float32} and log[-1]["loss"] < 0.8 * log[0]["loss"]
    assert all(tensor.dtype == torch.float32 for tensor in trainer.module.parameters())


def test_memory_formats_are_kept() -> None:
    for channels_last in (True, False):
        one = student()
        arithmetic = Arithmetic(one.module, Mode(channels_last=channels_last))
        seen: list[torch.Tensor] = []
        one.module[0].register_forward_hook(lambda layer, given, out, seen=seen: seen.extend([*given, out]))  # type: ignore[index, union-attr, operator, misc]
        arithmetic.outputs(one.inputs(batch_of(0).images))
        assert [tensor.is_contiguous() for tensor in seen] == [not channels_last] * 2


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_a_resumed_run_is_bitwise_the_same(tmp_path: Path, mode: Mode) -> None:
    whole = trainer_of(tmp_path / "whole", RECIPE, mode=mode)
    whole.run()
    for stop in (20, 37):
        first = trainer_of(tmp_path / f"{stop}", RECIPE, mode=mode)
        first.resume()
        for step in range(stop):
            first.train_step(batch_of(step))
        first.save()
        second = trainer_of(tmp_path / f"{stop}", RECIPE, mode=mode)
        second.run()
        assert same(whole, second)


def test_gradients_beyond_fp16_are_tried_again_at_a_smaller_scale(tmp_path: Path) -> None:
    """No step is lost, and the scale that was found is in the checkpoint."""

    def steep(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return 1e4 * nn.functional.cross_entropy(outputs, targets)

    trainer = trainer_of(tmp_path, RECIPE, mode=Mode("fp16"), method=steep)
    assert trainer.run().skipped == 0
    scale = trainer.arithmetic.state()["scale"]
    assert 1 <= scale < 65536
    again = trainer_of(tmp_path, RECIPE, mode=Mode("fp16"), method=steep)
    again.resume()
    assert again.arithmetic.state() == trainer.arithmetic.state()


def test_a_loss_that_is_not_a_number_is_skipped_in_fp16_too(tmp_path: Path) -> None:
    def wrong(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(outputs, targets) * float("nan")

    trainer = trainer_of(tmp_path, RECIPE, mode=Mode("fp16"), method=wrong)
    trainer.train_step(batch_of(0))
    assert trainer.at.skipped == 1


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_student_learns_the_same(tmp_path: Path) -> None:
    recipe = Recipe(steps=3, batch_size=4, lr=0.01)
    plain, compiled = (
        trainer_of(tmp_path / str(n), recipe, of=student(norm=False), mode=Mode(compiled=bool(n)))
        for n in range(2)
    )
    for trainer in (plain, compiled):
        trainer.run()
    for a, b in zip(plain.module.parameters(), compiled.module.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_unknown_words_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown --student-precision 'fp8'"):
        check_mode("fp8", "auto")
    with pytest.raises(UsageError, match="unknown --compile 'yes'"):
        check_mode("fp32", "yes")
