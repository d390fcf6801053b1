import copy
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from distill.models.head_selection import STRENGTHS, LabelledFeatures, choose_head
from distill.models.heads import LinearHead, fit_heads
from distill.models.student import Student, build_student, predict
from distill.stages.probe import Probe, check_probe_fits, set_classifier
from transferset.errors import UsageError

CLASSES = ("cat", "dog", "tree")


@pytest.fixture
def student() -> Student:
    return build_student("timm:test_efficientnet@none", CLASSES, 32, 0)


def test_the_classifier_gives_what_the_head_gives(student: Student) -> None:
    features = copy.deepcopy(student.module)
    cast(Any, features).reset_classifier(0)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    rows = predict(student, features, images)
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(3, rows.shape[1])).astype(np.float32)
    head = LinearHead(weight, rng.normal(size=3).astype(np.float32), temperature=0.5, unit_length=False)
    check_probe_fits(student)
    found = set_classifier(replace(student, has_classifier=False), head)
    assert found.has_classifier
    np.testing.assert_allclose(found.logits(images), head.logits(rows), rtol=1e-4, atol=1e-4)


def test_a_head_that_has_seen_some_of_the_images() -> None:
    """It is for features as they are, of the chosen strength and temperature, and knows no other images."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    features = (rng.normal(size=(60, 8)) + 2 * np.eye(3, 8)[labels]).astype(np.float32)
    train = LabelledFeatures(features[:, None], labels)
    choice = choose_head(train, None, classes=3, class_weight="none", folds=3, seed=0, unit_length=False)
    probe, rows = Probe(train, choice, 3, "none"), np.arange(30)
    assert probe.head() is choice.head
    some = probe.head(rows)
    assert not some.unit_length and some.temperature == choice.chosen.temperature
    path = STRENGTHS[: STRENGTHS.index(choice.chosen.strength) + 1]
    *_, fitted = fit_heads(features[:30, None], labels[:30], np.ones(30), path, 3, unit_length=False)
    np.testing.assert_allclose(some.weight, fitted.weight, rtol=1e-5)
    assert not np.allclose(some.weight, choice.head.weight, rtol=1e-2)


def test_a_head_for_features_of_unit_length_is_no_layer(student: Student) -> None:
    head = LinearHead(np.zeros((3, 256), np.float32), np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="unit length"):
        set_classifier(student, head)


def test_a_student_that_does_more_than_one_layer_is_refused(student: Student) -> None:
    class Squared(nn.Module):
        """Its outputs are not those of its last layer."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = student.module

        def get_classifier(self) -> nn.Module:
            return cast(nn.Module, cast(Any, self.inner).get_classifier())

        def reset_classifier(self, width: int) -> None:
            cast(Any, self.inner).reset_classifier(width)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return cast(torch.Tensor, self.inner(images)) ** 2 + 3

    with torch.no_grad():
        cast(Any, student.module).get_classifier().bias.fill_(1.0)
    check_probe_fits(replace(student, module=student.module))
    with pytest.raises(UsageError, match="more to its features"):
        check_probe_fits(replace(student, module=Squared()))
