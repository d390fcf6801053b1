"""A frozen vision backbone by its spec: encoders, teachers and the start of students."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from transferset.errors import DataError, UsageError
from transferset.models.preprocessing import Preprocessing
from transferset.models.spec import ModelSpec, parse_spec
from transferset.models.text import TextTower
from transferset.models.weights import weights_sha256

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, eq=False)
class Backbone:
    """A vision model without its classifier.

    Attributes:
        module: normalised float (n, 3, size, size) to features (n, dimension); in eval mode, on the CPU,
            parameters without gradients.
        preprocessing: from an image to the module's input.
        dimension: of the features.
        spec: what it was loaded by.
        weights_sha256: hash of the module's tensors.
        text: the text tower in the same space, where the model has one.
    """

    module: nn.Module
    preprocessing: Preprocessing
    dimension: int
    spec: ModelSpec
    weights_sha256: str
    text: TextTower | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 over family, name, weights and preprocessing: equal fingerprints give equal features.

        Where the weights were read from is no part of it.
        """
        parts = {
            "family": self.spec.family,
            "name": self.spec.name,
            "weights_sha256": self.weights_sha256,
            "preprocessing": self.preprocessing.to_dict(),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def load_backbone(spec: ModelSpec | str, *, image_size: int | None = None, seed: int = 0) -> Backbone:
    """Load a model's image tower.

    Args:
        spec: the spec or its text.
        image_size: side of the input in pixels; by default the model's own.
        seed: of a random initialisation (`@none`, `/none`); the global random state is left as it was.

    Raises:
        UsageError: a spec that is not in the grammar, an unknown model, an impossible image size.
        DataError: weights that cannot be had, or do not fit.
    """
    import torch

    if image_size is not None and image_size < 1:
        raise UsageError(f"image size {image_size} is not positive", "give the side of the input in pixels")
    model_spec = parse_spec(spec) if isinstance(spec, str) else spec
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module, preprocessing, text = _load(model_spec, image_size, seed)
    module.eval().requires_grad_(False)
    return Backbone(
        module=module,
        preprocessing=preprocessing,
        dimension=_feature_dimension(module, preprocessing.size, model_spec),
        spec=model_spec,
        weights_sha256=weights_sha256(module),
        text=text,
    )


def reload_backbone(
    spec: ModelSpec | str, weights: Path, *, image_size: int | None = None, seed: int = 0
) -> Backbone:
    """A backbone with other weights, such as finetuned ones, from a safetensors file of its module.

    A timm model (and `embedded`) needs nothing but that file; an open_clip model is first loaded by its spec,
    since its hub tag or directory says how it is built. There is no text tower: its space was the old
    weights'.

    Raises:
        UsageError, DataError: as `load_backbone`; DataError also for a file that is missing, damaged, or
            another model's.
    """
    import safetensors
    from safetensors.torch import load_file

    model_spec = parse_spec(spec) if isinstance(spec, str) else spec
    bare = replace(model_spec, family="timm", weights="none")
    found = load_backbone(
        model_spec if model_spec.family == "open_clip" else bare, image_size=image_size, seed=seed
    )
    try:
        found.module.load_state_dict(load_file(weights))
    except (OSError, safetensors.SafetensorError, RuntimeError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise DataError(
            f"{weights} does not hold weights of {model_spec}: {first_line}", "restore the file"
        ) from error
    return replace(found, spec=model_spec, weights_sha256=weights_sha256(found.module), text=None)


def _load(
    spec: ModelSpec, image_size: int | None, seed: int
) -> tuple[nn.Module, Preprocessing, TextTower | None]:
    if spec.family == "open_clip":
        from transferset.models.open_clip_models import load_open_clip

        return load_open_clip(spec, image_size, seed)
    if spec.family == "timm":
        from transferset.models.timm_models import load_timm

        return *load_timm(spec, image_size), None
    from transferset.models.embedded import load_embedded
    from transferset.models.timm_models import timm_preprocessing

    module = load_embedded()
    preprocessing = timm_preprocessing(module, spec)
    return module, preprocessing.with_size(image_size or preprocessing.size), None


def _feature_dimension(module: nn.Module, size: int, spec: ModelSpec) -> int:
    """Found by running the model: also tells whether it takes this size at all."""
    import torch

    try:
        with torch.no_grad():
            features = module(torch.zeros(1, 3, size, size))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UsageError(
            f"{spec} cannot take images of {size} pixels: {error}", "try another size"
        ) from error
    if not isinstance(features, torch.Tensor) or features.ndim != 2:
        raise UsageError(f"{spec} gives no single vector for an image", "choose a model with pooled features")
    return int(features.shape[1])
