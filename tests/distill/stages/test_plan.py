"""`distill plan`: the arithmetic of its prediction, and what it says of real stages."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distill.loop.execution import Execution
from distill.loop.plan import Plan
from distill.stages.label import LabelOptions, label
from distill.stages.plan import PlanOptions, PlanReport, _predict, plan
from tests.distill.small import ONE_THREAD, TINY
from transferset.errors import UsageError
from transferset.models.runtime import FrozenModel

RATES = {
    "decode": 1000.0,
    "teacher_views": 1000.0,
    "student_views": 1000.0,
    "teacher": 100.0,
    "student": 200.0,
}


def _predicted(images: int, steps: int, views: int, device: str = "cpu", mb: int = 1024) -> PlanReport:
    execution = Execution("cpu", 1, 1, mb)
    options = PlanOptions(
        (), Path(), TINY, plan=Plan(steps=steps, batch_size=50), views=views, execution=execution
    )
    return _predict(options, images, RATES, 1e5, {"device": device, "threads": 1}, classes=20)


def test_one_student_gains_nothing_since_a_run_keeps_what_it_has_asked() -> None:
    found = _predicted(images=1000, steps=1000, views=8)
    assert (found.images_seen, found.epochs, found.teacher_images) == (50_000, 50, 8000)
    student = 50_000 * (1 / 1000 + 1 / 200)
    teacher = 8000 * (1 / 1000 + 1 / 100)
    assert found.online_seconds == pytest.approx(1 + teacher + student)
    assert found.stored_seconds == pytest.approx(1 + student)
    assert found.label_seconds == pytest.approx(1 + teacher)
    assert found.pays_from == 2
    assert found.seconds_for(3) == pytest.approx(
        (3 * found.online_seconds, found.label_seconds + 3 * found.stored_seconds)
    )
    assert found.store_bytes == 1000 * (8 * (2 * 20 + 4) + 1)


def test_a_short_run_looks_at_less_than_a_store_holds() -> None:
    """Two epochs of eight views: the store pays only when four such runs have been made."""
    found = _predicted(images=1000, steps=40, views=8)
    assert found.teacher_images == 2000 and found.pays_from == 5


def test_without_repeats_every_view_is_looked_at() -> None:
    found = _predicted(images=1000, steps=1000, views=0)
    assert found.store_views == 50 and found.teacher_images == 50_000


def test_what_does_not_fit_the_cache_is_decoded_again() -> None:
    decoded_again = _predicted(1000, 1000, 8, mb=0).stored_seconds - _predicted(1000, 1000, 8).stored_seconds
    assert decoded_again == pytest.approx(49_000 / 1000)


def test_features_take_their_room_in_a_store_and_no_time() -> None:
    options = PlanOptions((), Path(), TINY, plan=Plan(steps=1000, batch_size=50), execution=ONE_THREAD)
    without, found = (
        _predict(options, 1000, RATES, 1e5, {"device": "cpu", "threads": 1}, 20, dimension)
        for dimension in (0, 512)
    )
    assert found.store_bytes - without.store_bytes == 1000 * 8 * 2 * 512
    assert (found.label_seconds, found.pays_from) == (without.label_seconds, without.pays_from)


def test_models_on_a_gpu_work_beside_the_processor() -> None:
    found = _predicted(1000, 1000, 8, device="cuda")
    assert found.stored_seconds == pytest.approx(50_000 / 200)


def test_real_stages(
    tmp_path: Path,
    teacher: Path,
    encode: Callable[..., bytes],
    write_tar: Callable[..., Path],
    noise: Callable[..., np.ndarray],
) -> None:
    """The predicted size of a store is that of one which is made."""
    shards = write_tar(tmp_path / "noise.tar", {f"{n:02d}.jpg": encode(noise(n % 3, n)) for n in range(30)})
    options = PlanOptions((shards,), teacher, TINY, image_size=32, plan=Plan(steps=100, batch_size=8))
    given = {"features": True, "runtime": "eager", "execution": ONE_THREAD}
    options = PlanOptions(**{**vars(options), "seconds": 0.05, **given})
    found = plan(options)
    assert found.student_mode["precision"] == "fp32", "a run as short as that is not probed"
    half = replace(options, execution=replace(ONE_THREAD, student_precision="bf16"))
    assert plan(half).student_mode["precision"] == "bf16"
    assert found.images == 30 and found.rates.keys() == RATES.keys()
    assert all(rate > 0 for rate in found.rates.values())
    assert found.joint_rates["online"] < found.joint_rates["stored"] < found.rates["student"]
    assert found.label_seconds > 0 and found.pays_from is not None and found.pays_from >= 2
    label(LabelOptions((shards,), teacher, tmp_path / "store", **given))
    tensors = (tmp_path / "store" / "outputs" / "000000.safetensors").stat().st_size
    assert 0 < tensors - found.store_bytes < 500, "but for the header"


def test_labelled_images_that_are_mixed_in_count(
    teacher: Path, labelled: Path, noise_tar: Callable[..., Path], tmp_path: Path
) -> None:
    """60 of the transfer set, and 18 labelled ones so often that they are about half of an epoch."""
    shards, mixed = (noise_tar(60),), {"data": labelled, "labelled_share": 0.5}
    options = PlanOptions(shards, teacher, TINY, image_size=32, plan=Plan(steps=9, batch_size=8), **mixed)  # type: ignore[arg-type]
    options = replace(options, seconds=0.05, runtime="eager", execution=ONE_THREAD)
    found = plan(options)
    assert found.images == 60 + 3 * 18 and plan(replace(options, data=None)).images == 60
    stored = LabelOptions(shards, teacher, tmp_path / "store", runtime="eager", execution=ONE_THREAD)
    label(replace(stored, **mixed))  # type: ignore[arg-type]
    tensors = sum(path.stat().st_size for path in (tmp_path / "store" / "outputs").glob("*.safetensors"))
    assert tensors == pytest.approx(found.store_bytes, rel=0.1)
    with pytest.raises(UsageError, match="--labelled-share 1"):
        replace(options, labelled_share=1.0)


def test_a_teacher_that_looks_at_mirror_images_too_takes_twice_the_time(
    teacher: Path, noise_tar: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look is made to take a twentieth of a second, beside which nothing else counts."""
    look = FrozenModel.__call__

    def slow(self: FrozenModel, images: np.ndarray) -> np.ndarray:
        time.sleep(0.05)
        return look(self, images)

    monkeypatch.setattr(FrozenModel, "__call__", slow)
    options = PlanOptions((noise_tar(8),), teacher, TINY, image_size=32, plan=Plan(steps=9, batch_size=8))
    options = replace(options, seconds=0.2, runtime="eager", execution=ONE_THREAD)
    once, twice = (plan(replace(options, teacher_flip=flip)) for flip in (False, True))
    assert once.rates["teacher"] / twice.rates["teacher"] == pytest.approx(2, rel=0.3)


def test_impossible_options(teacher: Path, tmp_path: Path) -> None:
    for values in ({"views": -1}, {"seconds": 0.0}):
        with pytest.raises(UsageError):
            PlanOptions((tmp_path,), teacher, TINY, **values)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="unknown --augment"):
        plan(PlanOptions((tmp_path,), teacher, TINY, augment="wild"))
