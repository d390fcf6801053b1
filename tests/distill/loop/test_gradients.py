"""Batches in parts, and what happens where the memory does not suffice."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from distill.loop.gradients import Gradients
from distill.loop.mode import PLAIN, Arithmetic
from distill.loop.optimizer import adamw
from distill.loop.recipe import Recipe
from distill.methods.feature_matching import ContrastiveMatch
from tests.distill.loop.toys import Limited, batch_of, same, student, trainer_of
from transferset.errors import OutOfMemoryError

RECIPE = Recipe(steps=20, batch_size=4, lr=0.01, checkpoint_every=5, log_every=5)
ALLOCATOR = RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory")
ONEDNN = RuntimeError("could not create a primitive")


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_parts_add_up_to_the_gradient_of_the_batch(parts: int) -> None:
    found, gradients = [], []
    for number in (1, parts):
        one = student(norm=False)
        of = Gradients(one, Arithmetic(one.module, PLAIN), nn.functional.cross_entropy, parts=number)
        found.append(of.of(batch_of(0), 0, adamw(one.module, 0.1, 0.0), clip=1e9))
        gradients.append([parameter.grad for parameter in one.module.parameters()])
    assert found[0].loss == pytest.approx(found[1].loss, abs=1e-6)
    assert found[0].norm == pytest.approx(found[1].norm, abs=1e-5)
    for whole, summed in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, summed)


def test_accumulation_changes_batch_norm_only(tmp_path: Path) -> None:
    plain, parted = trainer_of(tmp_path / "a", RECIPE), trainer_of(tmp_path / "b", RECIPE)
    parted.gradients.parts = 2
    for trainer in (plain, parted):
        trainer.train_step(batch_of(0))
    assert not same(plain, parted) and parted.window.summary({})["images_per_second"] > 0  # type: ignore[index]


def test_no_part_is_too_small_for_batch_norm(tmp_path: Path) -> None:
    """Its statistics take two images: four in four parts are done as in two."""
    two, four = trainer_of(tmp_path / "a", RECIPE), trainer_of(tmp_path / "b", RECIPE)
    two.gradients.parts, four.gradients.parts = 2, 4
    for trainer in (two, four):
        trainer.train_step(batch_of(0))
    assert same(two, four)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, ALLOCATOR, ONEDNN])
def test_what_does_not_fit_is_halved_and_done_again(
    tmp_path: Path, error: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bitwise as if the batch had been in parts from the first step: the failed attempt leaves no trace."""
    monkeypatch.setattr(Limited, "error", error)
    log: list[dict[str, Any]] = []
    trainer = trainer_of(tmp_path / "limited", RECIPE, log, of=student(Limited))
    assert trainer.run().divided == [(1, 2)]
    assert [entry for entry in log if "event" in entry] == [
        {"step": 1, "event": "divided", "parts": 2, "images_at_once": 2}
    ]
    assert (
        "out of memory in step 1: from now on a batch is computed 2 images at a time"
        in capsys.readouterr().err
    )
    asked = trainer_of(tmp_path / "asked", replace(RECIPE, accumulate=2))
    asked.run()
    assert same(trainer, asked) and asked.at.divided == []


def test_a_resumed_run_remembers_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer_of(tmp_path, replace(RECIPE, stop_at=10), of=student(Limited)).run()
    monkeypatch.setattr(Limited, "most", 4)
    second = trainer_of(tmp_path, RECIPE, of=student(Limited))
    second.run()
    assert second.at.divided == [(1, 2)] and second.gradients.parts == 2


def test_one_image_that_does_not_fit_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = trainer_of(tmp_path / "a", RECIPE, of=student(Limited, norm=False))
    normed = trainer_of(tmp_path / "b", RECIPE, of=student(Limited))
    monkeypatch.setattr(Limited, "most", 1)
    plain.train_step(batch_of(0))
    assert plain.gradients.parts == 4
    with pytest.raises(OutOfMemoryError, match="with 2 images at once"):  # batch norm takes two
        normed.train_step(batch_of(0))
    monkeypatch.setattr(Limited, "most", 0)
    with pytest.raises(OutOfMemoryError, match="in step 2, with 1 images at once") as error:
        plain.train_step(batch_of(1))
    assert error.value.exit_code == 5 and "--image-size" in str(error.value.hint)


def test_images_that_are_compared_stay_together(tmp_path: Path) -> None:
    """The contrastive loss of half a batch is another loss."""
    trainer = trainer_of(tmp_path, RECIPE, of=student(Limited), method=ContrastiveMatch(), divisible=False)
    with pytest.raises(OutOfMemoryError, match="compares with each other"):
        trainer.train_step(batch_of(0))


def test_other_errors_are_not_taken_for_want_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limited, "error", RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        trainer_of(tmp_path, RECIPE, of=student(Limited)).run()
