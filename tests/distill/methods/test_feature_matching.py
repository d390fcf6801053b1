import math

import pytest
import torch

from distill.methods.feature_matching import ContrastiveMatch, CosineMatch, SmoothL1Match
from distill.methods.transfer import Loss

LOSSES = [CosineMatch(), SmoothL1Match(), ContrastiveMatch()]


def _features(seed: int, n: int = 6, d: int = 8) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_the_cosine_by_hand() -> None:
    student = torch.tensor([[3.0, 0.0], [1.0, 1.0], [0.0, -2.0]])
    teacher = torch.tensor([[5.0, 0.0], [1.0, 0.0], [0.0, 0.5]])
    expected = (0 + (1 - math.sqrt(0.5)) + 2) / 3
    assert CosineMatch()(student, teacher).item() == pytest.approx(expected, rel=1e-6)


def test_the_cosine_is_zero_at_equal_directions() -> None:
    assert CosineMatch()(0.1 * _features(0), 7 * _features(0)).item() == pytest.approx(0, abs=1e-6)


def test_smooth_l1_by_hand() -> None:
    """The teacher's (30, 40) has a root mean square of 5 * sqrt(50): scaled it is (0.6, 0.8) * sqrt(2)."""
    target = torch.tensor([[0.6, 0.8]]) * math.sqrt(2)
    student = target + torch.tensor([[0.5, -3.0]])
    expected = (0.5 * 0.5**2 + (3.0 - 0.5)) / 2
    loss = SmoothL1Match()(student, torch.tensor([[30.0, 40.0]]))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_smooth_l1_is_zero_at_the_scaled_features() -> None:
    teacher = _features(0)
    scaled = teacher / teacher.square().mean(dim=1, keepdim=True).sqrt()
    assert SmoothL1Match()(scaled, teacher).item() == pytest.approx(0, abs=1e-6)


def test_the_contrast_by_hand() -> None:
    """Two orthogonal images, both told apart with the same margin of 1 / temperature."""
    axes = torch.eye(2)
    expected = math.log(1 + math.exp(-1 / 0.5))
    assert ContrastiveMatch(0.5)(3 * axes, axes).item() == pytest.approx(expected, rel=1e-5)
    assert ContrastiveMatch(0.5)(axes.flip(0), axes).item() == pytest.approx(expected + 2, rel=1e-5)


def test_the_contrast_is_smallest_on_matched_pairs() -> None:
    axes, loss = torch.eye(4), ContrastiveMatch()
    matched = loss(axes, axes)
    orders = [torch.tensor(order) for order in ([1, 0, 2, 3], [1, 2, 3, 0], [3, 2, 1, 0])]
    assert all(loss(axes[order], axes) > matched for order in orders)
    assert all(loss(_features(seed, 4, 4), axes) > matched for seed in range(5))
    outputs = axes.clone().requires_grad_(True)
    loss(outputs, axes).backward()
    assert outputs.grad is not None and outputs.grad.abs().max() < 1e-4


def test_one_image_has_nothing_to_contrast() -> None:
    assert ContrastiveMatch()(_features(0, 1), _features(1, 1)).item() == 0


@pytest.mark.parametrize("loss", LOSSES)
def test_the_length_of_the_teachers_features_changes_nothing(loss: Loss) -> None:
    student, teacher = _features(0), _features(1)
    assert loss(student, 100 * teacher).item() == pytest.approx(loss(student, teacher).item(), rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_following_the_gradient_leads_to_the_teacher(loss: Loss) -> None:
    teacher = _features(1)
    outputs = _features(0).requires_grad_(True)
    optimizer = torch.optim.Adam([outputs], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        loss(outputs, teacher).backward()
        optimizer.step()
    found = torch.nn.functional.cosine_similarity(outputs[:, None], teacher[None], dim=2)
    assert torch.equal(found.argmax(dim=1), torch.arange(6))


@pytest.mark.parametrize("loss", LOSSES)
def test_features_of_length_zero_give_no_infinity(loss: Loss) -> None:
    outputs = torch.zeros(3, 4, requires_grad=True)
    value = loss(outputs, torch.zeros(3, 4))
    value.backward()
    assert torch.isfinite(value) and outputs.grad is not None and torch.isfinite(outputs.grad).all()
