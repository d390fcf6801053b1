"""Features of labelled images: the right rows, computed once, whatever happens in between."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from distill.data.features import VIEWS, FeatureStore, compute_features, features_key
from distill.data.rendered import Rendering
from transferset.copies import item_id
from transferset.models.backbone import Backbone, load_backbone
from transferset.models.runtime import FrozenModel, open_runtime

BATCH = 4
KEY = "0123456789abcdef" * 4
SHAPE = (2, 3)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("timm:test_efficientnet@none", image_size=32)


@pytest.fixture(scope="module")
def model(backbone: Backbone) -> FrozenModel:
    return open_runtime(backbone, runtime="eager", batch_size=BATCH, device="cpu", threads=1)


@pytest.fixture
def paths(tmp_path: Path, picture: Callable[..., np.ndarray], encode: Callable[..., bytes]) -> list[Path]:
    """Ten images: the fourth is empty, the eighth is a copy of the first."""
    found = []
    for number in range(10):
        found.append(tmp_path / f"{number}.png")
        found[-1].write_bytes(encode(picture(40, 36, seed=number), "png"))
    found[3].write_bytes(b"")
    found[7].write_bytes(found[0].read_bytes())
    return found


def rendering(model: FrozenModel, **values: int) -> Rendering:
    return Rendering(model.preprocessing, BATCH, **values)


def store_of(folder: Path, model: FrozenModel, views: tuple[str, ...] = VIEWS) -> FeatureStore:
    return FeatureStore(folder / "features", KEY, views, model.dimension)


def test_every_readable_image_has_its_rows(paths: list[Path], model: FrozenModel, tmp_path: Path) -> None:
    found = compute_features(paths, model, rendering(model), store_of(tmp_path, model), "images")
    assert found.places.tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert found.reasons == {3: "empty"}
    assert found.features.shape == (9, 2, model.dimension)
    assert found.features.dtype == np.float32
    assert [bytes(row) for row in found.ids] == [item_id(paths[place].read_bytes()) for place in found.places]
    (batch, *_) = rendering(model).batches(paths[4:8])
    assert batch.pixels is not None
    np.testing.assert_allclose(found.features[3:6, 0], model(batch.pixels)[:3], rtol=1e-5, atol=1e-5)
    mirrored = model(batch.pixels[:, :, ::-1])[:3]
    np.testing.assert_allclose(found.features[3:6, 1], mirrored, rtol=1e-5, atol=1e-5)
    assert np.array_equal(found.features[0], found.features[6]), "copies have the same row"


def test_what_is_in_the_store_is_not_computed_again(
    paths: list[Path], model: FrozenModel, tmp_path: Path
) -> None:
    first = compute_features(paths, model, rendering(model), store_of(tmp_path, model), "images")
    assert first.computed == 9
    again = compute_features(paths, model, rendering(model), store_of(tmp_path, model), "images")
    assert again.computed == 0
    assert np.array_equal(again.features, first.features)
    assert np.array_equal(again.places, first.places)
    assert again.reasons == first.reasons


def test_a_batch_of_which_something_is_missing_is_computed_as_before(
    paths: list[Path], model: FrozenModel, tmp_path: Path
) -> None:
    whole = compute_features(paths, model, rendering(model), store_of(tmp_path / "whole", model), "images")
    partial = store_of(tmp_path / "partial", model)
    compute_features(paths[:2], model, rendering(model), partial, "images")
    resumed = compute_features(
        paths, model, rendering(model), store_of(tmp_path / "partial", model), "images"
    )
    assert resumed.computed == 9, "the two known ones of the first batch among them"
    assert np.array_equal(resumed.features[2:], whole.features[2:])
    np.testing.assert_allclose(resumed.features, whole.features, rtol=1e-4, atol=1e-4)


def test_workers_change_nothing(paths: list[Path], model: FrozenModel, tmp_path: Path) -> None:
    found = [
        compute_features(
            paths,
            model,
            rendering(model, workers=workers),
            store_of(tmp_path / str(workers), model),
            "images",
        )
        for workers in (0, 3)
    ]
    assert np.array_equal(found[0].features, found[1].features)
    assert np.array_equal(found[0].places, found[1].places)


def test_an_interruption_keeps_what_was_computed(
    paths: list[Path], model: FrozenModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(tmp_path, model)
    add = store.add

    def interrupted(ids: np.ndarray, features: np.ndarray) -> None:
        add(ids, features)
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compute_features(paths, model, rendering(model), store, "images")
    known = store_of(tmp_path, model).known()
    assert [known(item_id(path.read_bytes())) for path in paths[:6]] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]


def test_too_many_pixels_is_a_reason_and_no_image_is_no_error(
    paths: list[Path], model: FrozenModel, tmp_path: Path
) -> None:
    found = compute_features(
        paths, model, rendering(model, max_pixels=100), store_of(tmp_path, model), "images"
    )
    assert len(found.features) == 0
    assert found.features.shape[1:] == (2, model.dimension)
    assert found.reasons[0] == "too many pixels: 1440 > 100"
    none = compute_features([], model, rendering(model), store_of(tmp_path, model), "images")
    assert none.features.shape == (0, 2, model.dimension)


def fill(folder: Path, count: int = 3, first: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Rows in a new file of the store in `folder`; their ids and rows."""
    store = FeatureStore(folder, KEY, VIEWS, SHAPE[1])
    ids = np.array([[first + number] * 16 for number in range(count)], np.uint8)
    rows = np.random.default_rng(first).normal(size=(count, *SHAPE)).astype(np.float32)
    store.add(ids, rows)
    store.flush()
    return ids, rows


def test_files_add_up(tmp_path: Path) -> None:
    first, second = fill(tmp_path), fill(tmp_path, first=11)
    store = FeatureStore(tmp_path, KEY, VIEWS, SHAPE[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{KEY[:16]}-00000{number}.safetensors" for number in (0, 1)
    ]
    assert np.array_equal(store.get(first[0]), first[1])
    assert np.array_equal(store.get(second[0][::-1]), second[1][::-1])
    known = store.known()
    assert known(bytes([1] * 16)) and not known(bytes([5] * 16))
    store.flush()
    assert len(list(tmp_path.iterdir())) == 2, "nothing new, no file"


def test_an_id_keeps_its_row(tmp_path: Path) -> None:
    ids, rows = fill(tmp_path)
    store = FeatureStore(tmp_path, KEY, VIEWS, SHAPE[1])
    store.add(ids, rows + 1)
    store.flush()
    assert np.array_equal(store.get(ids), rows)
    assert len(list(tmp_path.iterdir())) == 1


def test_another_key_has_rows_of_its_own(tmp_path: Path) -> None:
    ids, _ = fill(tmp_path)
    assert not FeatureStore(tmp_path, KEY[::-1], VIEWS, SHAPE[1]).known()(bytes(ids[0]))
    assert FeatureStore(tmp_path, KEY, VIEWS, SHAPE[1]).known()(bytes(ids[0])), "and harms nobody"


def wrong(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[bytes], bytes]:
    """The file with one of its tensors changed."""

    def make(data: bytes) -> bytes:
        tensors = load(data)
        return save({**tensors, name: np.ascontiguousarray(change(tensors[name]))})

    return make


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-7],
        lambda data: b"",
        lambda data: save({"ids": load(data)["ids"]}),
        wrong("ids", lambda ids: ids[:, :8]),
        wrong("ids", lambda ids: ids[:, 0]),
        wrong("ids", lambda ids: ids[:2]),
        wrong("ids", lambda ids: ids.astype(np.int32)),
        wrong("features", lambda features: features[:, :1]),
        wrong("features", lambda features: features[..., :2]),
        wrong("features", lambda features: features.astype(np.float64)),
    ],
)
def test_a_damaged_file_is_told_and_its_rows_are_gone(
    damage: Callable[[bytes], bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids, _ = fill(tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    store = FeatureStore(tmp_path, KEY, VIEWS, SHAPE[1])
    assert not any(store.known()(bytes(identity)) for identity in ids)
    told = capsys.readouterr().err
    assert f"{path} is damaged" in told and "computed again" in told
    assert not path.exists()
    assert np.array_equal(fill(tmp_path)[0], ids), "they can be added again"


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / ".tmp-left").write_bytes(b"half")
    FeatureStore(tmp_path, KEY, VIEWS, SHAPE[1])
    assert not (tmp_path / ".tmp-left").exists()


def test_the_key_is_all_that_the_rows_depend_on(backbone: Backbone, model: FrozenModel) -> None:
    larger = open_runtime(backbone, runtime="eager", batch_size=BATCH + 1, device="cpu", threads=1)
    keys = {
        features_key(backbone.fingerprint, model, VIEWS),
        features_key(backbone.fingerprint, model, VIEWS[:1]),
        features_key("other", model, VIEWS),
        features_key(backbone.fingerprint, larger, VIEWS),
    }
    assert len(keys) == 4
    assert features_key(backbone.fingerprint, model, VIEWS) in keys
