"""How alike an image and its row must be to be the same image, found for this encoder on what was fetched.

An index over URLs holds no images that `curate calibrate` could look at. Once some are fetched, copies of
them as the web makes them (re-encoded, scaled) tell how far the cosine of one and the same picture falls; the
embeddings that the index was made of often are of such a copy. No number is taken from another encoder.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from curate.encoding.pipeline import Encoded, PipelineOptions, encode_items
from curate.fetch.chunks import Outcome
from transferset.images import decode
from transferset.models.runtime import FrozenModel

LEAST_IMAGES = 20
MOST_IMAGES = 100
_MISSED = 0.01
_LONG_SIDE = 1_024


@dataclass(frozen=True)
class Threshold:
    """Least agreement of an image with the index's row; None if nobody knows it. `source` says where it is
    from; `images` it was found on, of whose pairs the share `others` reached it."""

    value: float | None
    source: str
    images: int | None = None
    others: float | None = None


@dataclass(frozen=True)
class _Copy:
    """Copy number `edit` of a fetched image; 0 is the image itself."""

    outcome: Outcome
    edit: int


def calibrate(model: FrozenModel, outcomes: Sequence[Outcome], pipeline: PipelineOptions) -> Threshold:
    """The cosine that 99 % of the copies keep to their image.

    Args:
        outcomes: readable images with different bytes; some are taken, evenly over their order.
    """
    if len(outcomes) < LEAST_IMAGES:
        return Threshold(
            None,
            f"{len(outcomes)} images are too few to calibrate on (at least {LEAST_IMAGES}), and "
            "--min-agreement was not given",
        )
    places = np.linspace(0, len(outcomes) - 1, min(MOST_IMAGES, len(outcomes))).astype(int)
    sample = [outcomes[place] for place in dict.fromkeys(places.tolist())]
    copies = [_Copy(one, edit) for one in sample for edit in range(len(_EDITS) + 1)]
    read = partial(_read, max_pixels=pipeline.max_pixels)
    found = list(encode_items(model, copies, read, pipeline))
    vectors = np.stack([one.embedding for one in found if isinstance(one, Encoded)])
    vectors = vectors.reshape(len(sample), len(_EDITS) + 1, -1)
    own, edited = vectors[:, 0], vectors[:, 1:]
    value = round(float(np.quantile(np.einsum("nd,ned->ne", own, edited), _MISSED)), 5)
    pairs = (own @ own.T)[np.triu_indices(len(sample), 1)]
    return Threshold(
        value, "calibrated on fetched images", len(sample), round(float((pairs >= value).mean()), 5)
    )


def _read(copy: _Copy, max_pixels: int) -> bytes:
    data = copy.outcome.read()
    if copy.edit == 0:
        return data
    image = Image.fromarray(decode(data, short_side=_LONG_SIDE // 2, max_pixels=max_pixels))
    image.thumbnail((_LONG_SIDE, _LONG_SIDE))
    share, format, quality = _EDITS[copy.edit - 1]
    size = (max(1, round(image.width * share)), max(1, round(image.height * share)))
    buffer = io.BytesIO()
    image.resize(size, Image.Resampling.BICUBIC).save(buffer, format, quality=quality)
    return buffer.getvalue()


_EDITS = ((1.0, "JPEG", 75), (0.5, "JPEG", 90), (0.75, "WEBP", 80))
"""Scale, format and quality of each copy."""
