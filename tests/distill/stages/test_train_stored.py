"""`distill train --labels-from`: what is learnt is what an online teacher would have taught."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from safetensors.numpy import load_file

from distill.data.batches import Batch
from distill.data.label_store import open_store
from distill.data.views import AUGMENTATIONS, augmentation
from distill.loop.execution import Execution
from distill.loop.plan import Plan
from distill.loop.run_directory import RunDirectory
from distill.models.student import build_student
from distill.stages.label import LabelOptions, label
from distill.stages.train import Training, TrainOptions, train
from distill.stages.train_checks import check
from distill.stages.train_inputs import open_inputs
from distill.task import CLASSIFICATION
from distill.teaching import stored as stored_teaching
from tests.distill.small import ONE_THREAD, TINY
from tests.distill.stages import killed
from tests.distill.stages.students import weights_sum
from transferset.errors import DataError, UsageError

VIEWS = 3
Picture = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def shards(
    tmp_path_factory: pytest.TempPathFactory,
    encode: Callable[..., bytes],
    write_tar: Callable[..., Path],
    noise: Picture,
) -> Path:
    """Two tars; the second's first and last image are cut off."""
    root = tmp_path_factory.mktemp("shards") / "set"
    for shard, count in enumerate((25, 16)):
        members = {f"{n:04d}.jpg": encode(noise(n % 3, 100 * shard + n)) for n in range(count)}
        for name in ("0000.jpg", "0015.jpg") if shard else ():
            members[name] = members[name][:-300]
        write_tar(root / f"{shard:06d}.tar", members)
    return root


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, shards: Path, teacher: Path, labelled: Path) -> Path:
    out = tmp_path_factory.mktemp("stores") / "store"
    given = LabelOptions(
        (shards,), teacher, out, views=VIEWS, batch_size=8, data=labelled, labelled_share=0.5
    )
    label(replace(given, runtime="eager", execution=ONE_THREAD))
    return out


def _options(shards: Path, out: Path, **values: object) -> TrainOptions:
    plan = values.pop("plan", Plan(steps=30, batch_size=16, lr=5e-3, checkpoint_every=6))
    options = TrainOptions((shards,), None, TINY, out, image_size=32, runtime="eager", plan=plan)  # type: ignore[arg-type]
    return replace(options, **{"execution": ONE_THREAD, **values})  # type: ignore[arg-type]


def _arguments(shards: Path, store: Path, out: Path) -> list[str]:
    """The command line of `_options`."""
    given = ["train", "--shards", shards, "--labels-from", store, "--student", TINY, "--out", out]
    given += ["--image-size", 32, "--steps", 30, "--batch-size", 16, "--lr", 5e-3, "--checkpoint-every", 6]
    given += ["--threads", 1, "--device", "cpu", "--workers", 1]
    return [str(argument) for argument in given]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, shards: Path, store: Path) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    train(_options(shards, out, labels_from=store))
    return out


def _batches(options: TrainOptions, steps: int) -> list[Batch]:
    """What the student is fed."""
    method = check(options, CLASSIFICATION)
    inputs = open_inputs(options, CLASSIFICATION, method, options.execution.resolve())
    options.out.mkdir()
    training = Training(options, CLASSIFICATION, RunDirectory(options.out), inputs)
    stream = training.feed(options.out / "outputs.npy").stream(0)
    found = [next(stream) for _ in range(steps)]
    stream.close()
    return found


@pytest.mark.parametrize("mixed_in", [False, True])
def test_stored_targets_are_the_online_ones_to_float16(
    shards: Path, store: Path, teacher: Path, labelled: Path, tmp_path: Path, mixed_in: bool
) -> None:
    """The same images in every batch, also where unreadable ones are replaced; the same log-probabilities;
    loss and gradient of a step."""
    given = {"data": labelled, "labelled_share": 0.5} if mixed_in else {}
    steps = 16 if mixed_in else 9
    stored = _batches(_options(shards, tmp_path / "stored", labels_from=store, **given), steps)
    online = _batches(_options(shards, tmp_path / "online", teacher=teacher, views=VIEWS, **given), steps)
    assert set(np.concatenate([batch.rounds for batch in stored]).tolist()) == {0, 1, 2}
    for one, other in zip(stored, online, strict=True):
        assert np.array_equal(one.indices, other.indices) and np.array_equal(one.images, other.images)
        assert one.targets is not None and other.targets is not None
        expected = other.targets - np.logaddexp.reduce(other.targets, axis=1, keepdims=True)
        assert np.allclose(one.targets, expected, rtol=1e-3, atol=1e-3)
    (loss, gradient), (expected_loss, expected_gradient) = map(_loss_and_gradient, (stored[3], online[3]))
    assert loss == pytest.approx(expected_loss, rel=2e-3)
    assert np.linalg.norm(gradient - expected_gradient) < 5e-3 * np.linalg.norm(expected_gradient)


def _loss_and_gradient(batch: Batch) -> tuple[float, np.ndarray]:
    import torch

    from distill.methods.task_oriented import TaskOriented

    student = build_student(TINY, ("blue", "green", "red"), 32, 0)
    loss = TaskOriented()(student.module(student.inputs(batch.images)), torch.as_tensor(batch.targets))
    loss.backward()
    gradients = [p.grad.flatten() for p in student.module.parameters() if p.grad is not None]
    return loss.item(), torch.cat(gradients).numpy()


def test_trained_weights_are_close(shards: Path, store: Path, teacher: Path, tmp_path: Path) -> None:
    """The difference is small beside what was learnt; Adam's steps make more of rounding than it is worth."""
    plan = Plan(steps=8, batch_size=16, lr=1e-3)
    train(_options(shards, tmp_path / "stored", labels_from=store, plan=plan))
    train(_options(shards, tmp_path / "online", teacher=teacher, views=VIEWS, plan=plan))
    stored, online = (load_file(tmp_path / name / "model.safetensors") for name in ("stored", "online"))
    start = build_student(TINY, ("blue", "green", "red"), 32, 0).module.state_dict()
    moved = sum(float(np.abs(online[name] - start[name].numpy()).sum()) for name in online)
    apart = sum(float(np.abs(online[name] - stored[name]).sum()) for name in online)
    assert 0 < apart < 0.1 * moved


def test_a_run_without_a_teacher(undisturbed: Path, store: Path, shards: Path) -> None:
    report, config = RunDirectory(undisturbed).report(), json.loads((undisturbed / "config.json").read_text())
    assert report is not None and report["dropped"] == 2 and report["costs"]["teacher"]["images"] == 0
    assert config["inputs"]["store_sha256"] == open_store(store).fingerprint
    assert config["arguments"]["views"] == VIEWS and config["arguments"]["augment"] == "standard"
    losses = [entry["loss"] for entry in RunDirectory(undisturbed).metrics() if "loss" in entry]
    assert losses[-1] < losses[0]
    assert json.loads((undisturbed / "labels.json").read_text()) == ["blue", "green", "red"]


@pytest.mark.parametrize("step", [4, 19])
def test_a_killed_run_ends_with_the_same_bits(
    undisturbed: Path, shards: Path, store: Path, tmp_path: Path, step: int
) -> None:
    out = tmp_path / "run"
    killed.kill(_arguments(shards, store, out), killed.TRAIN_STEP, step + 1)
    resumed = killed.resume(_arguments(shards, store, out), killed.TRAIN_STEP)
    assert resumed.calls == 30 - step // 6 * 6
    assert weights_sum(out) == weights_sum(undisturbed)


@pytest.mark.parametrize("workers", [0, 3])
def test_workers_change_no_bit(
    undisturbed: Path, shards: Path, store: Path, tmp_path: Path, workers: int
) -> None:
    execution = Execution("cpu", 1, workers, cache_mb=0)
    train(_options(shards, tmp_path / "run", labels_from=store, execution=execution))
    assert weights_sum(tmp_path / "run") == weights_sum(undisturbed)


def test_another_seed_orders_anew_and_sees_the_same_views(
    undisturbed: Path, shards: Path, store: Path, tmp_path: Path
) -> None:
    options = _options(shards, tmp_path / "run", labels_from=store, seed=1)
    train(options)
    assert weights_sum(tmp_path / "run") != weights_sum(undisturbed)
    seeds = [_batches(replace(options, seed=seed, out=tmp_path / f"b{seed}"), 3) for seed in (0, 1)]
    images = [
        {(int(i), int(n)): image.tobytes() for b in batches for i, n, image in
         zip(b.indices, b.numbers, b.images, strict=True)}  # type: ignore[arg-type]
        for batches in seeds
    ]  # fmt: skip
    shared = images[0].keys() & images[1].keys()
    assert shared and all(images[0][one] == images[1][one] for one in shared)


@pytest.mark.parametrize("method", ["task-oriented", "pseudo-labels"])
def test_the_largest_classes_and_the_rest_teach_too(
    shards: Path, teacher: Path, tmp_path: Path, method: str
) -> None:
    given = LabelOptions((shards,), teacher, tmp_path / "store", views=2, top_k=1, runtime="eager")
    label(replace(given, execution=ONE_THREAD))
    out = tmp_path / "run"
    train(_options(shards, out, labels_from=tmp_path / "store", method=method))
    losses = [entry["loss"] for entry in RunDirectory(out).metrics() if "loss" in entry]
    assert losses[-1] < losses[0]


def test_the_precision_of_a_teacher_that_has_looked_means_nothing(
    undisturbed: Path, shards: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(_options(shards, tmp_path / "run", labels_from=store, precision="bf16"))
    assert "--student-precision is for the student" in capsys.readouterr().err
    assert weights_sum(tmp_path / "run") == weights_sum(undisturbed)


def test_part_of_what_was_labelled_and_fewer_views_will_do(shards: Path, store: Path, tmp_path: Path) -> None:
    report = train(_options(shards / "000001.tar", tmp_path / "run", labels_from=store, views=1))
    assert report.dropped == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"views": 4}, "--views 4"),
        ({"views": 0}, "--views 0: .* holds 3 views"),
        ({"augment": "strong"}, "--augment strong"),
        ({"method": "task-agnostic"}, "--method task-agnostic: .* holds no features"),
        ({"feature_weight": 20.0}, "--feature-weight: .* holds no features"),
    ],
)
def test_what_the_store_does_not_hold_is_refused(
    shards: Path, store: Path, tmp_path: Path, values: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        train(_options(shards, tmp_path / "run", labels_from=store, **values))
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_store_whose_views_would_look_otherwise_is_refused(
    shards: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where `standard` means something else than when it was labelled, or a decoder gives other pixels."""
    out = tmp_path / "run"
    with monkeypatch.context() as changed:
        changed.setitem(AUGMENTATIONS, "standard", replace(augmentation("standard"), scale=(0.3, 1.0)))
        difference = r"another --augment standard: scale \[0\.35, 1\.0\] there, \[0\.3, 1\.0\] now"
        with pytest.raises(UsageError, match=difference):
            train(_options(shards, out, labels_from=store))
    with monkeypatch.context() as changed:
        changed.setattr(stored_teaching, "AUGMENTATIONS", {})
        with pytest.raises(UsageError, match=r"another --augment standard: colour 0\.0 there, None now"):
            train(_options(shards, out, labels_from=store))
    with monkeypatch.context() as changed:
        changed.setattr(simplejpeg, "decode_jpeg", partial(simplejpeg.decode_jpeg, fastdct=True))
        with pytest.raises(UsageError, match="images look different: other pixels for jpeg"):
            train(_options(shards, out, labels_from=store))
    assert not (out / "config.json").exists()
    moved = shutil.copytree(store, tmp_path / "moved")
    config = json.loads((moved / "config.json").read_text())
    config["decoder"]["versions"] = {"pillow": "9.0", "simplejpeg": "0.1"}
    (moved / "config.json").write_text(json.dumps(config))
    train(_options(shards, out, labels_from=moved, plan=Plan(steps=1, batch_size=16)))


def test_other_images_are_refused(
    shards: Path, store: Path, tmp_path: Path, labelled: Path, encode: Callable[..., bytes],
    write_tar: Callable[..., Path], noise: Picture,
) -> None:  # fmt: skip
    other = write_tar(tmp_path / "other" / "000009.tar", {"a.jpg": encode(noise(0, 7))})
    with pytest.raises(UsageError, match=r"holds nothing of 000009\.tar"):
        train(_options(other, tmp_path / "run", labels_from=store))
    shorter = write_tar(tmp_path / "shorter" / "000000.tar", {"a.jpg": encode(noise(0, 7))})
    with pytest.raises(UsageError, match=r"000000\.tar: 25 images in the store, 1 now"):
        train(_options(shorter, tmp_path / "run", labels_from=store))
    changed = shutil.copytree(shards, tmp_path / "changed")
    data = bytearray((changed / "000000.tar").read_bytes())
    data[1500] ^= 1
    (changed / "000000.tar").write_bytes(data)
    with pytest.raises(UsageError, match=r"000000\.tar: other images"):
        train(_options(changed, tmp_path / "run", labels_from=store))
    with pytest.raises(UsageError, match="labelled images, not"):
        train(_options(shards, tmp_path / "run", labels_from=store, data=labelled, labelled_share=0.9))
    folder = labelled / "val"
    with pytest.raises(UsageError, match="labelled images: 18 images in the store, 12 now"):
        train(_options(shards, tmp_path / "run", labels_from=store, data=folder, labelled_share=0.5))


def test_a_store_of_another_teacher_a_damaged_one_and_none(
    shards: Path, store: Path, teacher: Path, tmp_path: Path, undisturbed: Path
) -> None:
    out = tmp_path / "run"
    train(_options(shards, out, teacher=teacher, labels_from=store, plan=Plan(steps=1, batch_size=16)))
    other = shutil.copytree(teacher, tmp_path / "other")
    report = json.loads((other / "report.json").read_text())
    (other / "report.json").write_text(json.dumps({**report, "fingerprint": "0" * 64}))
    with pytest.raises(UsageError, match="labelled by another teacher"):
        train(_options(shards, tmp_path / "a", teacher=other, labels_from=store))
    damaged = shutil.copytree(store, tmp_path / "damaged")
    (damaged / "outputs" / "000000.safetensors").write_bytes(b"x")
    with pytest.raises(DataError, match=r"000000\.safetensors is missing or damaged"):
        train(_options(shards, tmp_path / "a", labels_from=damaged))
    with pytest.raises(DataError, match="not a run of distill label"):
        train(_options(shards, tmp_path / "a", labels_from=undisturbed))
    with pytest.raises(UsageError, match="neither --teacher nor --labels-from"):
        train(_options(shards, tmp_path / "a"))
