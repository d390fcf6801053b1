"""The encoder: a frozen model that turns images, and texts where it can, into unit vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from transferset.errors import NumericError, UsageError
from transferset.images import MAX_PIXELS, decode
from transferset.models.backbone import load_backbone
from transferset.models.runtime import FrozenModel, RuntimeName, open_runtime
from transferset.models.text import TextTower

DEFAULT_BATCH_SIZE = 64

T = TypeVar("T")


@dataclass(frozen=True)
class EncoderRequest:
    """Which encoder, and what it runs on.

    Attributes:
        spec: text of the model's spec.
        image_size: side of the input, pixels; None is the model's own.
        seed: of a random initialisation.
        runtime, batch_size, device, threads: see `transferset.models.runtime.open_runtime`.
    """

    spec: str
    image_size: int | None = None
    seed: int = 0
    runtime: RuntimeName = "auto"
    batch_size: int = DEFAULT_BATCH_SIZE
    device: str = "auto"
    threads: int | None = None


@dataclass(frozen=True, eq=False)
class Encoder:
    """An open encoder. All vectors it gives are L2-normalised float32.

    Attributes:
        model: the image tower on its runtime.
        fingerprint: of family, name, weights and preprocessing; equal ones give vectors that can be compared.
        spec: text of the spec that it was opened with.
        text: the text tower, where the model has one.
    """

    model: FrozenModel
    fingerprint: str
    spec: str
    text: TextTower | None = None

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return self.model.dimension

    def encode_images(self, images: Sequence[bytes], max_pixels: int = MAX_PIXELS) -> np.ndarray:
        """Vectors of encoded images, (n, d). An ImageError comes out for one that cannot be read."""
        short_side = self.model.preprocessing.resize_short_side
        return self._encode(images, lambda data: decode(data, short_side=short_side, max_pixels=max_pixels))

    def encode_rgb(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Vectors of decoded images, each (h, w, 3) uint8: (n, d)."""
        return self._encode(images, lambda rgb: rgb)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of texts, (n, d), comparable to those of images.

        Raises:
            UsageError: the encoder has no text tower.
        """
        if self.text is None:
            raise UsageError(
                f"the encoder {self.spec} has no text tower, so it cannot search by text",
                "query with images, or build the index with an open_clip encoder",
            )
        return unit_rows(self.text.encode(texts), self.spec)

    def _encode(self, images: Sequence[T], to_rgb: Callable[[T], np.ndarray]) -> np.ndarray:
        size, step = self.model.preprocessing.size, self.model.batch_size
        rows = np.empty((len(images), self.dimension), np.float32)
        batch = np.empty((step, size, size, 3), np.uint8)
        for start in range(0, len(images), step):
            some = images[start : start + step]
            for place, image in enumerate(some):
                batch[place] = self.model.preprocessing.render(to_rgb(image))
            rows[start : start + len(some)] = self.model(batch[: len(some)])
        return unit_rows(rows, self.spec)


def open_encoder(request: EncoderRequest) -> Encoder:
    """Load an encoder and put it on its runtime.

    Raises:
        UsageError, DataError: see `load_backbone` and `open_runtime`.
    """
    backbone = load_backbone(request.spec, image_size=request.image_size, seed=request.seed)
    model = open_runtime(
        backbone,
        runtime=request.runtime,
        batch_size=request.batch_size,
        device=request.device,
        threads=request.threads,
    )
    return Encoder(model, backbone.fingerprint, str(backbone.spec), backbone.text)


def unit_rows(features: np.ndarray, encoder: object) -> np.ndarray:
    """Rows scaled to length 1 in float32; a row of zeros stays.

    Args:
        features: (n, d).
        encoder: named in the error.

    Raises:
        NumericError: a feature is not finite.
    """
    rows = np.asarray(features, np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.isfinite(norms).all():
        raise NumericError(
            f"the encoder {encoder} gave features that are not finite",
            "its weights may be damaged; try another",
        )
    return np.asarray(rows / np.where(norms > 0, norms, 1), np.float32)
