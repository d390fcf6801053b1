"""`distill label --features`: features stand in the store too, and teach as those of an online teacher."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distill.data.batches import Batch, render
from distill.data.label_shards import ShardFacts, map_tensors, open_shard, paths, write_shard
from distill.data.label_store import FORMAT_VERSION, STORE, open_store, store_fingerprint
from distill.data.views import augmentation, draw_view
from distill.loop.checkpoints import read_tensors
from distill.loop.plan import Plan
from distill.loop.run_directory import RunDirectory, read_config
from distill.models.student import build_student, open_student
from distill.models.teacher import open_teacher
from distill.stages.label import LabelOptions, label
from distill.stages.train import Training, TrainOptions, train
from distill.stages.train_checks import check
from distill.stages.train_inputs import open_inputs
from distill.task import CLASSIFICATION
from tests.distill.small import ONE_THREAD, TINY
from tests.distill.stages import killed
from tests.trees import tree
from transferset.copies import item_id
from transferset.errors import DataError, UsageError
from transferset.images import decode
from transferset.models.runtime import FrozenModel

COUNT, VIEWS, CLASSES = 20, 2, 3
BOTH = {"feature_weight": 2.0}
ALONE = {"method": "task-agnostic"}


@pytest.fixture(scope="module")
def shards(noise_tar: Callable[..., Path]) -> Path:
    return noise_tar(COUNT, cut=7)


def _label(shards: Path, teacher: Path, out: Path, **values: object) -> Path:
    options = LabelOptions((shards,), teacher, out, views=VIEWS, batch_size=8, runtime="eager")
    label(replace(options, **{"features": True, "execution": ONE_THREAD, **values}))  # type: ignore[arg-type]
    return out


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, shards: Path, teacher: Path) -> Path:
    """`plain`, `features`, and `largest`, which keeps one class."""
    root = tmp_path_factory.mktemp("stores")
    _label(shards, teacher, root / "plain", features=False)
    _label(shards, teacher, root / "features")
    _label(shards, teacher, root / "largest", top_k=1)
    return root


def _options(shards: Path, out: Path, **values: object) -> TrainOptions:
    plan = Plan(steps=16, batch_size=10, lr=5e-3)
    options = TrainOptions((shards,), None, TINY, out, image_size=32, runtime="eager", plan=plan)
    return replace(options, **{"execution": ONE_THREAD, **values})  # type: ignore[arg-type]


def _training(options: TrainOptions) -> Training:
    inputs = open_inputs(options, CLASSIFICATION, check(options, CLASSIFICATION), options.execution.resolve())
    options.out.mkdir()
    return Training(options, CLASSIFICATION, RunDirectory(options.out), inputs)


def _batches(training: Training, steps: int) -> list[Batch]:
    """What the student is fed."""
    stream = training.feed(training.options.out / "outputs.npy").stream(0)
    found = [next(stream) for _ in range(steps)]
    stream.close()
    return found


def _losses(run: Path) -> list[float]:
    return [entry["loss"] for entry in RunDirectory(run).metrics() if "loss" in entry]


def test_features_are_those_of_the_same_look_at_every_view(
    stores: Path,
    shards: Path,
    teacher: Path,
    encode: Callable[..., bytes],
    noise: Callable[..., np.ndarray],
) -> None:
    """Unit length, float16, bit for bit what the teacher gives for the same batch."""
    store, model = open_store(stores / "features"), open_teacher(teacher, runtime="eager", batch_size=8)
    kept = store.shards[0].features
    assert kept is not None and store.features == model.model.dimension
    assert (kept.dtype, kept.shape) == (np.float16, (COUNT, VIEWS, store.features))
    shown = []
    for number in range(4):  # the first batch
        data = encode(noise(number % 3, 1000 + number))
        rgb = decode(data, short_side=model.preprocessing.size)
        views = [draw_view(augmentation("standard"), 0, item_id(data), view) for view in range(VIEWS)]
        shown += [render(rgb, view, model.preprocessing) for view in views]
    answers = model.answers("logits and features").ask(np.stack(shown))
    assert np.array_equal(kept[:4].reshape(8, -1), answers[:, CLASSES:].astype(np.float16))
    assert np.allclose(np.linalg.norm(kept[:4].astype(np.float32), axis=-1), 1, atol=1e-3)
    assert not kept[7].any() and kept[8].any(), "an image that cannot be read"


def test_the_teacher_looks_once(
    shards: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    look = FrozenModel.__call__

    def counted(self: FrozenModel, images: np.ndarray) -> np.ndarray:
        seen.append(len(images))
        return look(self, images)

    monkeypatch.setattr(FrozenModel, "__call__", counted)
    _label(shards, teacher, tmp_path / "store")
    assert sum(seen) == VIEWS * (COUNT - 1)


def test_what_is_said_of_classes_is_what_a_store_without_features_says(
    stores: Path, shards: Path, teacher: Path, tmp_path: Path
) -> None:
    plain, features = stores / "plain", stores / "features"
    found, expected = (map_tensors(paths(store, 0)[0]) for store in (features, plain))
    assert set(found) - set(expected) == {"features"}
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    mine, its = (read_config(store)["arguments"] for store in (features, plain))
    assert mine == {**its, "features": found["features"].shape[-1]} and "features" not in its
    for store in ("plain", "features"):
        _label(
            shards, teacher, stores / store, features=store != "plain", table=tmp_path / f"{store}.parquet"
        )
        train(_options(shards, tmp_path / store, labels_from=stores / store, method="pseudo-labels"))
    weights = [(tmp_path / store / "model.safetensors").read_bytes() for store in ("plain", "features")]
    assert weights[0] == weights[1]
    assert (tmp_path / "plain.parquet").read_bytes() == (tmp_path / "features.parquet").read_bytes()


def test_a_killed_command_goes_on_with_the_same_bytes(
    stores: Path, shards: Path, teacher: Path, tmp_path: Path
) -> None:
    """When it is labelled but not yet written: the pieces hold features too."""
    given: list[object] = ["label", "--shards", shards, "--teacher", teacher, "--out", tmp_path / "store"]
    given += ["--views", VIEWS, "--batch-size", 8, "--runtime", "eager", "--features"]
    given += ["--threads", 1, "--workers", 1, "--device", "cpu"]
    killed.kill(given, "distill.stages.label_writer:write_shard", 1)
    assert killed.resume(given, "distill.data.labelling:Labelling._ask").calls == 0
    assert tree(tmp_path / "store") == tree(stores / "features")


def test_a_store_is_of_one_kind(stores: Path, shards: Path, teacher: Path) -> None:
    dimension = open_store(stores / "features").features
    for store, given, difference in (
        ("plain", True, f"features: none there, {dimension} now"),
        ("features", False, f"features: {dimension} there, none now"),
    ):
        before = tree(stores / store)
        with pytest.raises(UsageError, match=difference):
            _label(shards, teacher, stores / store, features=given)
        assert tree(stores / store) == before


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda features: None, "it holds no features"),
        (lambda features: features[:, :, :-1], rf"it holds features float16 \({COUNT}, {VIEWS}, "),
        (lambda features: features[:-1], "it holds features float16"),
        (lambda features: features.astype(np.float32), "it holds features float32"),
    ],
)
def test_features_that_are_not_what_the_store_names_are_damage(
    stores: Path, tmp_path: Path, damage: Callable[[np.ndarray], np.ndarray | None], told: str
) -> None:
    """Also where every checksum fits."""
    store = shutil.copytree(stores / "features", tmp_path / "store")
    shard = open_shard(store, 0)
    tensors = {**map_tensors(paths(store, 0)[0]), "features": damage(np.asarray(shard.features))}
    kept = {name: np.array(tensor) for name, tensor in tensors.items() if tensor is not None}
    _write_again(store, write_shard(store, 0, shard.facts, [kept]))
    with pytest.raises(DataError, match=rf"000000\.safetensors is damaged: {told}"):
        open_store(store)


def _write_again(store: Path, facts: ShardFacts) -> None:
    fingerprint = store_fingerprint(read_config(store), [facts])
    values = {"format_version": FORMAT_VERSION, "fingerprint": fingerprint, "shards": 1}
    (store / STORE).write_text(json.dumps(values))


def test_features_in_a_store_that_names_none_and_cut_off_files_are_damage(
    stores: Path, shards: Path, teacher: Path, tmp_path: Path
) -> None:
    foreign = shutil.copytree(stores / "plain", tmp_path / "foreign")
    shutil.copytree(stores / "features" / "outputs", foreign / "outputs", dirs_exist_ok=True)
    _write_again(foreign, open_shard(foreign, 0).facts)
    with pytest.raises(DataError, match=r"holds features float16 .* names 0"):
        open_store(foreign)
    cut = shutil.copytree(stores / "features", tmp_path / "cut")
    path = paths(cut, 0)[0]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"000000\.safetensors is missing or damaged"):
        open_store(cut)
    _label(shards, teacher, cut)
    assert tree(cut) == tree(stores / "features")


@pytest.mark.parametrize("method", [BOTH, ALONE])
def test_targets_are_those_of_an_online_teacher(
    stores: Path, shards: Path, teacher: Path, tmp_path: Path, method: dict[str, object]
) -> None:
    """To float16, up to the length of features that are alone; and so is the loss."""
    stored = _training(_options(shards, tmp_path / "s", labels_from=stores / "features", **method))
    online = _training(_options(shards, tmp_path / "o", teacher=teacher, views=VIEWS, **method))
    first = 0 if method is ALONE else CLASSES
    for one, other in zip(_batches(stored, 4), _batches(online, 4), strict=True):
        assert np.array_equal(one.indices, other.indices) and np.array_equal(one.images, other.images)
        assert one.targets is not None and other.targets is not None
        assert one.targets.shape == other.targets.shape == (10, stored.inputs.teaching.target_width)
        unit = other.targets[:, first:] / np.linalg.norm(other.targets[:, first:], axis=1, keepdims=True)
        assert np.allclose(one.targets[:, first:], unit, atol=1e-3)
        outputs = np.random.default_rng(0).normal(size=one.targets.shape).astype(np.float32)
        losses = [_loss(side, outputs, batch) for side, batch in ((stored, one), (online, other))]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3) and losses[0] > 0
    assert stored.inputs.heads == online.inputs.heads
    assert stored.inputs.teaching.width == online.inputs.teaching.width


def _loss(training: Training, outputs: np.ndarray, batch: Batch) -> float:
    import torch

    return float(training.loss()(torch.as_tensor(outputs), torch.as_tensor(batch.targets)))


def test_the_same_batches_give_the_same_bits(shards: Path, teacher: Path, tmp_path: Path) -> None:
    """Each view alone, here and there."""
    store, plan = _label(shards, teacher, tmp_path / "store", batch_size=1), Plan(steps=30, batch_size=1)
    stored = _training(_options(shards, tmp_path / "s", labels_from=store, plan=plan, **BOTH))
    online = _training(_options(shards, tmp_path / "o", teacher=teacher, views=VIEWS, plan=plan, **BOTH))
    for one, other in zip(_batches(stored, 30), _batches(online, 30), strict=True):
        assert one.targets is not None and other.targets is not None
        assert np.array_equal(one.targets[:, CLASSES:], other.targets[:, CLASSES:])


def test_a_student_of_both_is_close_to_that_of_an_online_teacher(
    stores: Path, shards: Path, teacher: Path, tmp_path: Path
) -> None:
    plan = Plan(steps=8, batch_size=10, lr=1e-3)
    given = {"plan": plan, **BOTH}
    report = train(_options(shards, tmp_path / "s", labels_from=stores / "features", **given))
    train(_options(shards, tmp_path / "o", teacher=teacher, views=VIEWS, **given))
    assert report.costs["teacher"]["images"] == 0 and report.dropped == 1
    stored, online = (read_tensors(tmp_path / name / "model.safetensors") for name in ("s", "o"))
    assert {name: tensor.shape for name, tensor in stored.items()} == {
        name: tensor.shape for name, tensor in online.items()
    }
    start = build_student(TINY, ("blue", "green", "red"), 32, 0).module.state_dict()
    body = [name for name in online if not name.startswith("classifier")]
    moved = sum(float((online[name] - start[name]).abs().sum()) for name in body)
    apart = sum(float((online[name] - stored[name]).abs().sum()) for name in body)
    assert 0 < apart < 0.1 * moved
    assert open_student(tmp_path / "s").logits(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, CLASSES)


@pytest.mark.parametrize("loss", ["cosine", "smooth-l1", "contrastive"])
def test_features_alone_teach(
    stores: Path, shards: Path, labelled: Path, teacher: Path, tmp_path: Path, loss: str
) -> None:
    """And with labels, beside which the store holds nothing, a probe gives the classifier."""
    given = {**ALONE, "feature_loss": loss, "data": labelled, "labelled_share": 0.0}
    report = train(_options(shards, tmp_path / "run", labels_from=stores / "features", **given))
    losses = _losses(tmp_path / "run")
    assert losses[-1] < losses[0] and report.classifier == "linear probe"
    assert report.costs["teacher"]["images"] == 0


@pytest.mark.parametrize("label_weight", [0.0, 1.0])
def test_features_beside_the_largest_classes_and_the_rest(
    shards: Path, teacher: Path, labelled: Path, tmp_path: Path, label_weight: float
) -> None:
    """Also with a head for the labels behind them."""
    mixed = {"data": labelled, "labelled_share": 0.4}
    store = _label(shards, teacher, tmp_path / "store", top_k=1, **mixed)
    options = _options(
        shards, tmp_path / "run", labels_from=store, label_weight=label_weight, **mixed, **BOTH
    )
    report = train(options)
    losses = _losses(options.out)
    assert np.mean(losses[-2:]) < np.mean(losses[:2]) and report.score is not None
    opened = open_store(store)
    training = _training(replace(options, out=tmp_path / "again"))
    [batch] = _batches(training, 1)
    assert batch.targets is not None
    assert batch.targets.shape[1] == 2 * 1 + 1 + opened.features + (label_weight > 0)
    outputs = np.zeros((10, training.inputs.heads[-1].stop), np.float32)
    assert np.isfinite(_loss(training, outputs, batch))


def test_a_store_over_mirror_images(stores: Path, shards: Path, teacher: Path, tmp_path: Path) -> None:
    """What it says of classes is what an online teacher with --teacher-flip says; features are of the
    views. It costs twice the looks, and train is not told."""
    path = _label(shards, teacher, tmp_path / "store", teacher_flip=True)
    flipped, plain = open_store(path), open_store(stores / "features")
    assert flipped.flip and not plain.flip and flipped.fingerprint != plain.fingerprint
    assert np.array_equal(flipped.shards[0].features, plain.shards[0].features)
    costs = [json.loads((store / STORE).read_text())["teacher_flops"] for store in (path, plain.path)]
    assert costs[0] == 2 * costs[1]
    stored = _training(_options(shards, tmp_path / "s", labels_from=path, **BOTH))
    online = {"teacher": teacher, "views": VIEWS, "teacher_flip": True, **BOTH}
    asked = _training(_options(shards, tmp_path / "o", **online))
    unlike = _training(_options(shards, tmp_path / "u", labels_from=plain.path, **BOTH))
    for one, other, third in zip(*(_batches(run, 4) for run in (stored, asked, unlike)), strict=True):
        assert one.targets is not None and other.targets is not None and third.targets is not None
        said = other.targets[:, :CLASSES]
        log_p = said - np.logaddexp.reduce(said, axis=1, keepdims=True)
        assert np.allclose(one.targets[:, :CLASSES], log_p, rtol=1e-3, atol=1e-3)
        assert np.allclose(one.targets[:, CLASSES:], other.targets[:, CLASSES:], atol=1e-3)
        assert not np.allclose(third.targets[:, :CLASSES], log_p, rtol=1e-3, atol=1e-3)
    report = train(_options(shards, tmp_path / "run", labels_from=path))
    assert report.costs["teacher"]["images"] == 0
    assert read_config(tmp_path / "run")["teacher"]["teacher_flip"] is True
    with pytest.raises(UsageError, match="teacher_flip: True there, none now"):
        _label(shards, teacher, path)


def test_what_does_not_fit(stores: Path, shards: Path, teacher: Path, tmp_path: Path) -> None:
    features, largest = stores / "features", stores / "largest"
    for values, message in (
        ({**BOTH, "labels_from": (features, largest)}, "--feature-weight with 2 teachers"),
        ({**ALONE, "labels_from": (features, features)}, "2 teachers with --method task-agnostic"),
        ({**ALONE, "feature_loss": "patches", "labels_from": features}, "a store holds no grid of features"),
        ({**BOTH, "teacher_flip": True, "labels_from": features}, "--teacher-flip with --labels-from"),
        ({**BOTH, "labels_from": stores / "plain"}, "--feature-weight: .* holds no features"),
        ({**ALONE, "labels_from": stores / "plain"}, "--method task-agnostic: .* holds no features"),
    ):
        with pytest.raises(UsageError, match=message) as refused:
            train(_options(shards, tmp_path / "run", **values))
    assert "label again with --features into another directory" in str(refused.value.hint)
    assert not (tmp_path / "run" / "config.json").exists()


def test_two_stores_with_features_are_averaged_as_those_without(
    stores: Path, shards: Path, tmp_path: Path
) -> None:
    pairs = {"features": ("features", "plain"), "plain": ("plain", "plain")}
    for name, pair in pairs.items():
        train(_options(shards, tmp_path / name, labels_from=tuple(stores / one for one in pair)))
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in pairs]
    assert weights[0] == weights[1]
