"""Models of open_clip: the image tower with its preprocessing, and the text tower on demand."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transferset.errors import DataError, UsageError
from transferset.models.preprocessing import Preprocessing
from transferset.models.spec import LOCAL_DIR, ModelSpec
from transferset.models.text import EncodeTexts, TextTower
from transferset.models.weights import (
    hub_or_its_cache,
    load_failures,
    reraise_if_disk_is_full,
    unavailable,
    unknown_model,
    weights_sha256,
)

if TYPE_CHECKING:
    from torch import nn

_CONFIG = "open_clip_config.json"


def load_open_clip(
    spec: ModelSpec, image_size: int | None, seed: int
) -> tuple[nn.Module, Preprocessing, TextTower]:
    """The image tower, its preprocessing and the text tower (which loads itself when it is first used).

    Args:
        image_size: side of the input; by default the model's. Position embeddings are resampled to it.
        seed: of random initialisation (`/none`).

    Raises:
        UsageError: open_clip has no such model, or the model cannot take that image size.
        DataError: the weights or the configuration cannot be had or do not fit.
    """
    model = _create(spec, image_size, seed)
    visual, preprocessing = model.visual, open_clip_preprocessing(model.visual.preprocess_cfg, spec)
    if hasattr(visual, "output_tokens"):
        visual.output_tokens = False  # CoCa's tower gives its tokens as well, for the caption decoder
    expected = weights_sha256(visual)

    def load_text() -> EncodeTexts:
        again = _create(spec, image_size, seed)
        if weights_sha256(again.visual) != expected:
            raise DataError(f"the weights of {spec} have changed since they were first loaded", "start again")
        del again.visual
        return _text_encoder(again, spec)

    return visual, preprocessing, TextTower(load_text)


def open_clip_preprocessing(config: dict[str, Any], spec: ModelSpec) -> Preprocessing:
    """The preprocessing that open_clip declares (`preprocess_cfg`)."""
    size = config["size"]
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    if height != width or config["resize_mode"] not in ("shortest", "squash"):
        raise DataError(
            f"{spec} takes {height}x{width} input, resized to the {config['resize_mode']!r} side",
            "only square input, cropped (shortest) or squashed, is supported; choose another model",
        )
    return Preprocessing(
        size=height,
        resize=config["resize_mode"],
        crop_pct=1.0,
        interpolation="bilinear" if config["interpolation"] == "bilinear" else "bicubic",
        mean=_per_channel(config["mean"]),
        std=_per_channel(config["std"]),
    )


def _per_channel(value: float | list[float] | tuple[float, ...]) -> tuple[float, float, float]:
    red, green, blue = (value, value, value) if isinstance(value, int | float) else value
    return float(red), float(green), float(blue)


def _create(spec: ModelSpec, image_size: int | None, seed: int) -> Any:
    """The whole open_clip model on the CPU. Third-party checkpoints are read with `weights_only=True`."""
    import open_clip
    import torch

    local = spec.name == LOCAL_DIR
    if local:
        _check_directory(spec)
    elif spec.name not in open_clip.list_models():
        raise unknown_model(spec, open_clip.list_models())
    elif not spec.is_random:
        _check_tag(spec)
    try:
        with torch.random.fork_rng(devices=[]), hub_or_its_cache(), _without_log_lines():
            torch.manual_seed(seed)
            model, _, _ = open_clip.create_model_and_transforms(
                f"{LOCAL_DIR}:{spec.weights}" if local else spec.name,
                pretrained=None if local or spec.is_random else spec.weights,
                force_image_size=image_size,
                pretrained_text=False,
                weights_only=True,
            )
    except load_failures() as error:
        reraise_if_disk_is_full(error)
        raise unavailable(spec, error) from error
    except AssertionError as error:
        raise UsageError(f"{spec} cannot take images of {image_size} pixels: {error}", None) from error
    return model.eval()


@contextlib.contextmanager
def _without_log_lines() -> Iterator[None]:
    """open_clip logs what it also raises, and that random weights are random, on the root logger."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        root.setLevel(before)


def _check_directory(spec: ModelSpec) -> None:
    directory = Path(spec.weights)
    try:
        config = json.loads((directory / _CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{directory} is not an open_clip directory: {_CONFIG}: {error}",
            f"give a directory with {_CONFIG} and weights, as open_clip's push_to_hf_hub writes it",
        ) from error
    weights = [path for suffix in ("safetensors", "bin", "pth") for path in directory.glob(f"*.{suffix}")]
    if not isinstance(config, dict) or "model_cfg" not in config or not weights:
        what = "has no weights" if "model_cfg" in config else f"has no model_cfg in its {_CONFIG}"
        raise DataError(f"the open_clip directory {directory} {what}", "complete the directory")


def _check_tag(spec: ModelSpec) -> None:
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(spec.name)
    if not Path(spec.weights).is_file() and not open_clip.is_pretrained_cfg(spec.name, spec.weights):
        known = ", ".join(tags) if tags else "there are none for this model"
        raise unavailable(spec, f"{spec.weights!r} is neither a file nor one of open_clip's tags ({known})")


def _text_encoder(model: Any, spec: ModelSpec) -> EncodeTexts:
    import open_clip
    import torch

    name = f"{LOCAL_DIR}:{spec.weights}" if spec.name == LOCAL_DIR else spec.name
    try:
        with hub_or_its_cache():
            tokenize = open_clip.get_tokenizer(name)
    except (OSError, RuntimeError, ValueError, ImportError) as error:
        reraise_if_disk_is_full(error)
        raise DataError(f"no tokenizer for {spec}: {error}", "query with images instead of texts") from error

    def encode(texts: list[str]) -> np.ndarray:
        if not texts:
            return np.zeros((0, _text_dimension(model, tokenize)), np.float32)
        with torch.inference_mode():
            features = model.encode_text(tokenize(texts))
        return np.ascontiguousarray(features.float().numpy())

    return encode


def _text_dimension(model: Any, tokenize: Any) -> int:
    import torch

    with torch.inference_mode():
        return int(model.encode_text(tokenize([""])).shape[1])
