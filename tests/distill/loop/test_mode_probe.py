"""The probe before the first step."""

import random
import time
from typing import Any

import numpy as np
import pytest
import torch

from distill.loop.execution import Execution
from distill.loop.mode import PLAIN, Mode
from distill.loop.mode_probe import SHORT_STEPS, resolve_mode
from distill.loop.recipe import Recipe
from tests.distill.loop.toys import Toy, student
from transferset.errors import UsageError

LONG = Recipe(steps=10**7, batch_size=16, lr=0.1)
NO_COMPILE = Execution(compile_student="off")


class SlowInFull(Toy):
    """Half precision is quicker."""

    slow_in_half = False

    def forward(self, images: torch.Tensor) -> Any:
        if torch.is_autocast_enabled("cpu") is self.slow_in_half:
            time.sleep(0.05)
        return super().forward(images)


class SlowInHalf(SlowInFull):
    """As on processors without bf16."""

    slow_in_half = True


class SlowWhenContiguous(Toy):
    def forward(self, images: torch.Tensor) -> Any:
        if images.is_contiguous():
            time.sleep(0.05)
        return super().forward(images)


class DisturbedInHalf(Toy):
    """Half precision is quicker, and other work on the machine slows its first steps down."""

    steps_in_half = 0

    def forward(self, images: torch.Tensor) -> Any:
        if not torch.is_autocast_enabled("cpu"):
            time.sleep(0.05)
        elif self.steps_in_half < 3:
            self.steps_in_half += 1
            time.sleep(0.2)
        return super().forward(images)


class BrokenInHalf(Toy):
    def forward(self, images: torch.Tensor) -> Any:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("no kernel for BFloat16")
        time.sleep(0.05)
        return super().forward(images)


def test_it_takes_what_is_faster_and_tells_by_how_much(capsys: pytest.CaptureFixture[str]) -> None:
    assert resolve_mode(None, student(SlowInFull), LONG, NO_COMPILE).precision == "bf16"
    told = capsys.readouterr().err
    assert told.startswith("student: bf16, ") and "bf16 " in told and "×" in told and told.count("\n") == 1


def test_a_disturbance_does_not_decide() -> None:
    assert resolve_mode(None, student(DisturbedInHalf), LONG, NO_COMPILE).precision == "bf16"


def test_it_stays_in_fp32_where_half_is_slow() -> None:
    assert resolve_mode(None, student(SlowInHalf), LONG, NO_COMPILE).precision == "fp32"


def test_channels_last_is_tried_also_in_a_precision_that_is_given() -> None:
    execution = Execution(compile_student="off", student_precision="fp32")
    mode = resolve_mode(None, student(SlowWhenContiguous), LONG, execution)
    assert mode.precision == "fp32" and mode.channels_last


def test_a_mode_that_does_not_work_is_not_taken(capsys: pytest.CaptureFixture[str]) -> None:
    assert resolve_mode(None, student(BrokenInHalf), LONG, NO_COMPILE).precision == "fp32"
    assert "steps cannot run in bf16, channels last, not compiled: no kernel" in capsys.readouterr().err


def test_it_changes_nothing() -> None:
    one = student(SlowInFull)
    before = {name: tensor.clone() for name, tensor in one.module.state_dict().items()}
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[union-attr]
    training = one.module.training
    resolve_mode(None, one, LONG, NO_COMPILE)
    assert all(torch.equal(tensor, before[name]) for name, tensor in one.module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[2]
    assert np.array_equal(np.random.get_state()[1], states[1])  # type: ignore[arg-type]
    assert one.module.training is training and all(p.grad is None for p in one.module.parameters())
    assert one.module[0].weight.is_contiguous(memory_format=torch.channels_last)  # type: ignore[index, union-attr, operator]


def test_short_runs_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    few = Recipe(steps=SHORT_STEPS - 1, batch_size=16, lr=0.1)
    quick = Recipe(steps=100, batch_size=16, lr=0.1)
    assert resolve_mode(None, student(SlowInFull), few, Execution()) == PLAIN
    assert resolve_mode(None, student(SlowInFull), quick, Execution()) == PLAIN
    assert capsys.readouterr().err == ""


def test_what_was_resolved_is_obeyed() -> None:
    """Also what an older version, which knew one mode only, has begun."""
    found = {"threads": 1, "student_mode": Mode("bf16", False).to_dict()}
    asked = Execution(student_precision="fp32")
    assert resolve_mode(found, student(), LONG, asked) == Mode("bf16", False)
    assert resolve_mode({"threads": 1}, student(), LONG, Execution(student_precision="bf16")) == PLAIN


def test_what_is_asked_for_is_taken_without_a_probe() -> None:
    short = Recipe(steps=2, batch_size=16, lr=0.1)
    assert resolve_mode(None, student(), short, Execution(student_precision="bf16")) == Mode("bf16")
    assert resolve_mode(None, student(), short, Execution(compile_student="on")) == Mode(compiled=True)


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert not resolve_mode(None, student(SlowInHalf), LONG, Execution()).compiled
    assert "there is no no-such-compiler" in capsys.readouterr().err
    with pytest.raises(UsageError, match=r"--compile on: .*no-such-compiler"):
        resolve_mode(None, student(), LONG, Execution(compile_student="on"))
