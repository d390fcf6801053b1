"""Class names as a head, and as a part of one."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from distill.loop.execution import Execution
from distill.metrics import log_softmax
from distill.models.head_selection import TEXT_SHARES, LabelledFeatures, choose_head
from distill.models.heads import LinearHead
from distill.models.text_head import TextOptions, text_head
from distill.stages.adapt import adapt
from distill.stages.adapt_options import AdaptOptions
from transferset.errors import DataError, UsageError
from transferset.models.backbone import Backbone, load_backbone
from transferset.models.text import TextTower

DIMENSION = 12


def _clouds(count: int, seed: int, spread: float) -> LabelledFeatures:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), count)
    noise = rng.normal(size=(len(labels), 1, DIMENSION)) * spread
    return LabelledFeatures((np.eye(DIMENSION)[labels][:, None] + noise).astype(np.float32), labels)


def _head(places: Sequence[int]) -> LinearHead:
    return LinearHead(np.eye(DIMENSION)[list(places)].astype(np.float32), np.zeros(3, np.float32))


def _choose(train: LabelledFeatures, val: LabelledFeatures | None, text: LinearHead | None):  # type: ignore[no-untyped-def]
    return choose_head(train, val, classes=3, class_weight="none", folds=4, seed=0, text=text)


def test_good_names_help_few_noisy_labels() -> None:
    train, val, test = (_clouds(*one, 0.8) for one in ((4, 0), (20, 1), (200, 2)))
    probe, both = _choose(train, val, None), _choose(train, val, _head([0, 1, 2]))
    assert both.chosen.text > 0 and both.chosen.loss < probe.chosen.loss

    def right(head: LinearHead) -> float:
        return float(np.mean(head.logits(test.features[:, 0]).argmax(axis=1) == test.labels))

    assert right(both.head) > right(probe.head) + 0.05


def test_misleading_names_are_not_followed() -> None:
    train, val = _clouds(20, 0, 0.4), _clouds(20, 1, 0.4)
    probe, both = _choose(train, val, None), _choose(train, val, _head([1, 2, 0]))
    assert both.chosen.text == 0 and both.chosen.loss <= probe.chosen.loss + 1e-9
    assert np.array_equal(both.head.weight, probe.head.weight)


@pytest.mark.parametrize("by_val", [True, False])
def test_the_grid_has_every_mixture_and_the_head_is_the_chosen_one(by_val: bool) -> None:
    train, val = _clouds(6, 0, 0.8), _clouds(20, 1, 0.8)
    found = _choose(train, val if by_val else None, _head([0, 1, 2]))
    shares = {trial.text for trial in found.trials}
    assert shares == {0.0, *TEXT_SHARES, 1.0}
    assert len(found.trials) == 10 * (1 + len(TEXT_SHARES)) + 1
    assert found.chosen.loss == pytest.approx(min(trial.loss for trial in found.trials), abs=1e-6)
    if by_val:
        logits = found.head.logits(val.features[:, 0]) * np.float32(found.chosen.temperature)
        np.testing.assert_allclose(logits, found.logits, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("spread", [0.3, 0.8, 3.0])
def test_the_same_choice_for_the_same_images_is_the_same_head(spread: float) -> None:
    train, val = _clouds(6, 0, spread), _clouds(20, 1, spread)
    found = _choose(train, val, _head([0, 1, 2]))
    again = found.refit(train, 3, "none")
    rows = val.features[:, 0]
    odds = [np.exp(log_softmax(head.logits(rows))) for head in (again, found.head)]
    np.testing.assert_allclose(*odds, atol=0.02)  # fits that start elsewhere end a little apart


def _backbone(encode: object) -> Backbone:
    bare = load_backbone("timm:test_efficientnet@none", image_size=32)
    return replace(bare, text=TextTower(lambda: encode))  # type: ignore[arg-type,return-value]


def test_a_class_is_called_by_its_folder_or_as_it_is_told() -> None:
    asked: list[str] = []

    def encode(texts: list[str]) -> np.ndarray:
        asked.extend(texts)
        return np.ones((len(texts), 256), np.float32)

    options = TextOptions(("a {} here",), {"bcc": "basal cell carcinoma"})
    head = text_head(_backbone(encode), ("bcc", "swimming_pool"), options)
    assert asked == ["a basal cell carcinoma here", "a swimming pool here"]
    np.testing.assert_allclose(np.linalg.norm(head.weight, axis=1), 1, rtol=1e-5)
    with pytest.raises(UsageError, match="--class-names has bcc, and there is no such class"):
        text_head(_backbone(encode), ("swimming_pool",), options)
    with pytest.raises(UsageError, match="places for the class name"):
        TextOptions(("a photo",))


def test_vectors_of_another_space_are_an_error() -> None:
    with pytest.raises(DataError, match="text vectors have 7 numbers, image vectors 256"):
        text_head(_backbone(lambda texts: np.ones((len(texts), 7), np.float32)), ("a", "b"), TextOptions())


def test_a_real_clip_gains_by_the_names_of_its_classes(
    tinyclip: Path, scenes20: Path, tmp_path: Path
) -> None:
    """Five classes, two labels each: the names are worth more than the labels."""
    for split, count in (("train", 2), ("val", 8)):
        for folder in sorted((scenes20 / split).iterdir())[:5]:
            (tmp_path / "data" / split / folder.name).mkdir(parents=True)
            for image in sorted(folder.iterdir())[:count]:
                shutil.copy(image, tmp_path / "data" / split / folder.name)
    options = AdaptOptions(
        tmp_path / "data", f"open_clip:local-dir:{tinyclip}", tmp_path / "auto", runtime="eager",
        execution=Execution("cpu", 1, 1),
    )  # fmt: skip
    auto = adapt(options)
    probe = adapt(replace(options, out=tmp_path / "probe", init="probe"))
    assert len(auto.trials) > len(probe.trials) and auto.text > 0 == probe.text
    assert auto.estimate["nll"] < probe.estimate["nll"]
    text = adapt(replace(options, out=tmp_path / "text", init="text"))
    assert text.fingerprint == auto.fingerprint
