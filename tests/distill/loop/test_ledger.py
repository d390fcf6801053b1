import pytest
import torch
from torch import nn

from distill.loop.ledger import Ledger, flops_per_image


def test_costs_add_up_and_survive_json() -> None:
    ledger = Ledger()
    ledger.add("teacher", 4, 1.5, 10.0)
    with ledger.timed("teacher", 2, 1.0):
        pass
    again = Ledger.from_dict(ledger.to_dict())
    assert again == ledger and again.stages["teacher"].images == 6
    assert again.stages["teacher"].flops == 11.0 and again.stages["teacher"].seconds >= 1.5


def test_flops_are_those_of_the_layers() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.Dropout(), nn.Flatten(), nn.Linear(8 * 16 * 16, 5)
    )
    forward = 2 * (8 * 3 * 9 * 16 * 16 + 8 * 16 * 16 * 5)
    before = torch.get_rng_state()
    assert flops_per_image(module, 16, backward=False) == pytest.approx(forward)
    assert 2 * forward < flops_per_image(module, 16, backward=True) <= 3 * forward
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize("layer", [nn.Conv2d, nn.ConvTranspose2d])
def test_groups_make_the_gradients_of_a_convolution_as_cheap_as_the_convolution(
    layer: type[nn.Module],
) -> None:
    """The first layer needs no gradient of its input; the second, depthwise, needs both."""
    module = nn.Sequential(nn.Conv2d(3, 8, 1), layer(8, 8, 3, padding=1, groups=8))
    first, depthwise = 2 * 8 * 3 * 16 * 16, 2 * 8 * 9 * 16 * 16
    assert flops_per_image(module, 16, backward=False) == first + depthwise
    assert flops_per_image(module, 16, backward=True) == 2 * first + 3 * depthwise
