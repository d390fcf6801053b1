import numpy as np
import pytest
import torch

from distill.methods.dual_head import DualHead, with_label_column
from distill.methods.feature_matching import CosineMatch
from distill.methods.feature_term import FeatureTerm
from distill.methods.task_oriented import TaskOriented
from distill.methods.top_k import TopKPseudoLabels, TopKTaskOriented

CLASSES, FEATURES = 3, 5
WIDTH = CLASSES + FEATURES


def _random(seed: int, n: int = 4, width: int = WIDTH) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def test_logits_and_features_have_their_own_columns() -> None:
    outputs, targets = _random(0), _random(1)
    logits = TaskOriented()(outputs[:, :CLASSES], targets[:, :CLASSES])
    features = CosineMatch()(outputs[:, CLASSES:], targets[:, CLASSES:])
    found = FeatureTerm(TaskOriented(), CLASSES, weight=4.0)(outputs, targets)
    assert found.item() == pytest.approx((logits + 4 * features).item(), rel=1e-6)


def test_without_weight_it_is_the_loss_of_the_logits() -> None:
    outputs, targets = _random(0).requires_grad_(True), _random(1)
    loss = FeatureTerm(TaskOriented(), CLASSES, weight=0.0)(outputs, targets)
    loss.backward()
    assert loss.item() == TaskOriented()(outputs[:, :CLASSES], targets[:, :CLASSES]).item()
    assert outputs.grad is not None and outputs.grad[:, CLASSES:].abs().max() == 0


def test_targets_of_the_largest_classes_have_their_own_width() -> None:
    """The largest of three classes, its log-probability, that of the rest; then the features."""
    outputs, features = _random(0, n=2), _random(1, n=2, width=FEATURES)
    largest = torch.tensor([[1.0, -0.2, -1.7], [2.0, -0.5, -0.9]])
    found = FeatureTerm(TopKTaskOriented(), CLASSES, weight=4.0, columns=3)(
        outputs, torch.cat([largest, features], dim=1)
    )
    own = TopKTaskOriented()(outputs[:, :CLASSES], largest)
    matched = CosineMatch()(outputs[:, CLASSES:], features)
    assert found.item() == pytest.approx((own + 4 * matched).item(), rel=1e-6)
    wider = FeatureTerm(TopKPseudoLabels(), 2, weight=4.0, columns=3)
    targets = torch.cat([torch.tensor([[1.0, -0.2, -1.7]] * 2), features], dim=1)
    own = torch.nn.functional.cross_entropy(outputs[:, :2], torch.tensor([1, 1]))
    matched = CosineMatch()(outputs[:, 2 : 2 + FEATURES], features)
    assert wider(outputs[:, : 2 + FEATURES], targets).item() == pytest.approx((own + 4 * matched).item())


def test_parts_of_a_batch_add_up_to_the_whole() -> None:
    outputs, targets = _random(0, n=8), _random(1, n=8)
    loss = FeatureTerm(TaskOriented(), CLASSES, weight=2.0)
    parts = 6 / 8 * loss(outputs[:6], targets[:6]) + 2 / 8 * loss(outputs[6:], targets[6:])
    assert parts.item() == pytest.approx(loss(outputs, targets).item(), rel=1e-6)


def test_labels_have_a_head_beside_it() -> None:
    """Columns: logits, features, the labels' logits."""
    outputs, taught = _random(0, width=WIDTH + CLASSES), _random(1)
    own = FeatureTerm(TaskOriented(), CLASSES, weight=2.0)
    targets = torch.from_numpy(with_label_column(taught.numpy(), np.array([-1, 2, -1, 0])))
    found = DualHead(own, WIDTH, weight=0.5, share=0.5)(outputs, targets)
    labelled = torch.nn.functional.cross_entropy(outputs[[1, 3], WIDTH:], torch.tensor([2, 0]))
    assert found.item() == pytest.approx((own(outputs[:, :WIDTH], taught) + 0.5 * labelled).item(), rel=1e-6)
