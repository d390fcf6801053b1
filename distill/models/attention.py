"""How torch computes attention."""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def without_fast_path() -> Iterator[None]:
    """Within, `nn.MultiheadAttention` computes step by step: its fused kernel has no ONNX form, and its
    operations are not counted."""
    import torch

    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
