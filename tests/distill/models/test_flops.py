import pytest
import torch
from torch import nn

from distill.models.attention import without_fast_path
from distill.models.flops import flops_per_image


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


WIDTH, TOKENS = 16, 4


class Attending(nn.Module):
    """Patches of 8 x 8 as tokens, and attention over them."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 8, stride=8)
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True) if fused else None
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        if self.attention is not None:
            attended: torch.Tensor = self.attention(tokens, tokens, tokens, need_weights=False)[0]
            return attended
        q, k, v = self.qkv(tokens).unflatten(-1, (3, 2, WIDTH // 2)).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("fused", [True, False])
def test_attention_counts_whatever_kernel_would_run_it(fused: bool) -> None:
    """Patches; queries, keys, values and the output; products with keys and with values."""
    layers = 2 * TOKENS * (3 * 64 * WIDTH + 4 * WIDTH * WIDTH)
    forward = layers + 2 * 2 * TOKENS * TOKENS * WIDTH
    module = Attending(fused)
    assert flops_per_image(module, 16, backward=False) == forward
    assert flops_per_image(module, 16, backward=True) == 3 * forward - 2 * TOKENS * 3 * 64 * WIDTH
    assert torch.backends.mha.get_fastpath_enabled()


def test_the_fast_path_comes_back_after_an_error() -> None:
    with pytest.raises(RuntimeError), without_fast_path():
        assert not torch.backends.mha.get_fastpath_enabled()
        raise RuntimeError
    assert torch.backends.mha.get_fastpath_enabled()
