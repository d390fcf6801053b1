import numpy as np
import pytest
import torch

from distill.methods.patch_matching import PatchMatch, resampled
from transferset.models.grid import GridShape

SHAPE = GridShape(summary=3, channels=2, side=2)
MATCH = PatchMatch(SHAPE.summary, SHAPE.channels)


def _row(summary: list[float], places: list[list[float]]) -> torch.Tensor:
    """A row whose grid has these vectors at its four places."""
    grid = torch.tensor(places).T.reshape(-1)
    return torch.cat([torch.tensor(summary), grid])[None]


def test_by_hand() -> None:
    teacher = _row([1.0, 0.0, 0.0], [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 2.0]])
    student = _row([0.0, 1.0, 0.0], [[3.0, 0.0], [0.0, -1.0], [1.0, 1.0], [5.0, 0.0]])
    assert MATCH(student, teacher).item() == pytest.approx((1 + (0 + 2 + 0 + 1) / 4) / 2)


def test_it_is_zero_at_equal_directions_and_follows_the_gradient() -> None:
    teacher = torch.randn(4, SHAPE.width, generator=torch.Generator().manual_seed(0))
    assert MATCH(teacher, 5 * teacher).item() == pytest.approx(0, abs=1e-6)
    outputs = torch.randn(4, SHAPE.width, generator=torch.Generator().manual_seed(1)).requires_grad_(True)
    optimizer = torch.optim.Adam([outputs], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        MATCH(outputs, teacher).backward()
        optimizer.step()
    assert MATCH(outputs, teacher).item() < 0.01


def test_a_finer_grid_is_averaged_down() -> None:
    fine = GridShape(summary=1, channels=2, side=4)
    grid = np.arange(2 * 16, dtype=np.float32).reshape(1, 2, 4, 4)
    rows = np.concatenate([np.full((1, 1), 7, np.float32), grid.reshape(1, -1)], axis=1)
    found = resampled(rows, fine, 2)
    expected = grid.reshape(1, 2, 2, 2, 2, 2).mean(axis=(3, 5))
    assert found[0, 0] == 7 and np.allclose(found[:, 1:], expected.reshape(1, -1))
    assert resampled(rows, fine, 4) is rows
