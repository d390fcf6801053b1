import math

import pytest

from distill.methods.feature_matching import ContrastiveMatch, CosineMatch, SmoothL1Match
from distill.methods.pseudo_labels import PseudoLabels
from distill.methods.task_oriented import TaskOriented
from distill.methods.transfer import Transfer, transfer_method
from transferset.errors import UsageError


def _method(name: str, temperature: float | None = None, feature_loss: str | None = None) -> Transfer:
    return transfer_method(name, temperature=temperature, feature_loss=feature_loss)


def test_probabilities_are_matched_at_a_temperature() -> None:
    assert _method("task-oriented") == Transfer(TaskOriented(1.0), "logits", 1.0)
    assert _method("task-oriented", 2.0).loss == TaskOriented(2.0)
    assert _method("task-oriented").trains_classifier


def test_features_may_count_beside_probabilities() -> None:
    found = transfer_method("task-oriented", temperature=None, feature_loss=None, feature_weight=4.0)
    assert found == Transfer(TaskOriented(1.0), "logits", 1.0, feature_weight=4.0)
    for name, weight in (("task-oriented", -1.0), ("task-oriented", math.nan), ("pseudo-labels", 1.0)):
        with pytest.raises(UsageError, match="--feature-weight"):
            transfer_method(name, temperature=None, feature_loss=None, feature_weight=weight)


def test_pseudo_labels_need_logits() -> None:
    assert _method("pseudo-labels") == Transfer(PseudoLabels(), "logits")


def test_features_are_matched_by_the_loss_of_ones_choice() -> None:
    assert _method("task-agnostic") == Transfer(CosineMatch(), "features", feature_loss="cosine")
    assert _method("task-agnostic", None, "smooth-l1").loss == SmoothL1Match()
    contrastive = _method("task-agnostic", None, "contrastive")
    assert contrastive == Transfer(ContrastiveMatch(0.07), "features", 0.07, "contrastive", least_batch=2)
    assert _method("task-agnostic", 0.2, "contrastive").loss == ContrastiveMatch(0.2)
    assert not contrastive.trains_classifier


@pytest.mark.parametrize(
    ("name", "temperature", "feature_loss", "message"),
    [
        ("magic", None, None, "unknown --method 'magic'"),
        ("task-agnostic", None, "magic", "unknown --feature-loss 'magic'"),
        ("task-oriented", None, "cosine", "--feature-loss with --method task-oriented"),
        ("pseudo-labels", None, "cosine", "--feature-loss with --method pseudo-labels"),
        ("pseudo-labels", 2.0, None, "--temperature with --method pseudo-labels"),
        ("task-agnostic", 2.0, None, "--temperature with --feature-loss cosine"),
        ("task-agnostic", 2.0, "smooth-l1", "--temperature with --feature-loss smooth-l1"),
        ("task-oriented", 0.0, None, "positive"),
    ],
)
def test_what_does_not_go_together(
    name: str, temperature: float | None, feature_loss: str | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        _method(name, temperature, feature_loss)
