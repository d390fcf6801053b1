"""Models of timm: hub weights, a local safetensors file, or seeded random initialisation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from transferset.errors import DataError, UsageError
from transferset.models.preprocessing import Preprocessing
from transferset.models.spec import ModelSpec
from transferset.models.weights import (
    hub_or_its_cache,
    load_failures,
    reraise_if_disk_is_full,
    unavailable,
    unknown_model,
)

if TYPE_CHECKING:
    from torch import Tensor, nn


def load_timm(spec: ModelSpec, image_size: int | None) -> tuple[nn.Module, Preprocessing]:
    """The model without its classifier, and its preprocessing.

    Args:
        image_size: side of the input; by default the one that the weights were made for. Position embeddings
            are resampled to it.

    Raises:
        UsageError: timm has no such model, or the model cannot take that image size.
        DataError: the weights cannot be had or do not fit.
    """
    import timm

    if not timm.is_model(spec.name):
        raise unknown_model(spec, timm.list_models())
    if spec.weights == "hub":
        model = _from_hub(spec)
    else:
        model = timm.create_model(spec.name, pretrained=False, num_classes=0)
        if not spec.is_random:
            _load_file(model, spec)
    preprocessing = timm_preprocessing(model, spec)
    if image_size is not None and image_size != preprocessing.size:
        set_image_size(model, image_size, spec)
        preprocessing = preprocessing.with_size(image_size)
    return model, preprocessing


def timm_preprocessing(model: nn.Module, spec: ModelSpec) -> Preprocessing:
    """The evaluation preprocessing that timm declares for a model."""
    from timm.data import resolve_model_data_config

    config: dict[str, Any] = resolve_model_data_config(model)
    modes = {"center": "shortest", "squash": "squash"}
    channels, height, width = config["input_size"]
    if config["crop_mode"] not in modes or height != width or channels != 3:
        raise DataError(
            f"{spec} takes {channels}-channel {height}x{width} input with crop mode {config['crop_mode']!r}",
            "only square RGB input, cropped at the centre or squashed, is supported; choose another model",
        )
    return Preprocessing(
        size=height,
        resize="squash" if config["crop_mode"] == "squash" else "shortest",
        crop_pct=float(config["crop_pct"]),
        interpolation="bilinear" if config["interpolation"] == "random" else config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )


def set_image_size(model: nn.Module, image_size: int, spec: ModelSpec) -> None:
    """Make a timm model take another input size: nothing to do for a convnet.

    Raises:
        UsageError: the model is bound to one input size.
    """
    resizable: Any = model
    if not getattr(model, "pretrained_cfg", {}).get("fixed_input_size", False):
        return
    if not hasattr(model, "set_input_size"):
        raise UsageError(f"{spec} takes one input size only, not {image_size}", "leave the image size out")
    try:
        resizable.set_input_size(img_size=(image_size, image_size))
    except (AssertionError, RuntimeError, ValueError, TypeError) as error:
        raise UsageError(f"{spec} cannot take images of {image_size} pixels: {error}", None) from error


def _from_hub(spec: ModelSpec) -> nn.Module:
    import timm

    try:
        with hub_or_its_cache():
            return timm.create_model(spec.name, pretrained=True, num_classes=0)
    except load_failures() as error:
        reraise_if_disk_is_full(error)
        raise unavailable(spec, error) from error


def _load_file(model: nn.Module, spec: ModelSpec) -> None:
    import safetensors
    from safetensors.torch import load_file

    path = Path(spec.weights)
    try:
        state: dict[str, Tensor] = load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise DataError(
            f"cannot read the weights of {spec}: {error}", "give a .safetensors file, as timm's hub has them"
        ) from error
    wanted = model.state_dict()
    for name in _classifier_names(model):
        state = {key: tensor for key, tensor in state.items() if not key.startswith(name + ".")}
    missing, unexpected = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    misshapen = sorted(k for k in wanted.keys() & state.keys() if wanted[k].shape != state[k].shape)
    if missing or unexpected or misshapen:
        raise DataError(
            f"{path} does not hold the weights of timm's {spec.name}: {len(missing)} tensors are missing "
            f"({', '.join(missing[:3])}), {len(unexpected)} unknown ({', '.join(unexpected[:3])}), "
            f"{len(misshapen)} of another shape ({', '.join(misshapen[:3])})",
            "name the architecture that the file was saved from",
        )
    model.load_state_dict(state)


def _classifier_names(model: nn.Module) -> tuple[str, ...]:
    names: str | tuple[str, ...] | None = getattr(model, "pretrained_cfg", {}).get("classifier")
    if names is None:
        return ()
    return (names,) if isinstance(names, str) else tuple(names)
