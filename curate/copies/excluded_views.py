"""The views of excluded images, embedded once for an index: what is stored in it is not embedded again."""

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import astuple

import numpy as np

from curate.encoding.pipeline import PipelineOptions
from curate.encoding.views import COPY_VIEWS, VIEWS_VERSION, embed_views
from curate.index.index import Index
from curate.index.stored_views import StoredViews
from curate.selection.guard import ExcludedImage
from transferset.console import say
from transferset.copies import item_id
from transferset.models.runtime import FrozenModel
from transferset.progress import progress

STATE_DIGITS = 16


def excluded_views(
    images: Sequence[ExcludedImage], index: Index, model: FrozenModel, pipeline: PipelineOptions
) -> np.ndarray:
    """The unit vectors (n, COPY_VIEWS, d) float16 of each image's views; zeros if it can't be decoded.

    `model` is the encoder of `index`. Vectors come from the index's cache, or are embedded and put there a
    few at a time, so that a run that was killed goes on where it was. Equal bytes are embedded once. How many
    came from where, and what it cost, is told.
    """
    start = time.perf_counter()
    vectors = np.zeros((len(images), COPY_VIEWS, model.dimension), np.float16)
    places: dict[bytes, list[int]] = defaultdict(list)
    for number, image in enumerate(images):
        places[image.item_id].append(number)
    # Without a readable header there is nothing to embed.
    missing = {image.item_id: image for image in images if image.width}
    readable, embedded = len(missing), 0
    state = views_state(index, model)
    with StoredViews(index.path, state, vectors.shape[1:], lambda: index.forgotten.ids) as stored:
        for identity, rows in stored.found(missing):
            vectors[places[identity]] = rows
            del missing[identity]
        if stored.damaged:
            files = "file" if stored.damaged == 1 else "files"
            say(f"note: {stored.damaged} damaged {files} of {stored.cache} skipped, embedding again")
        if missing:
            embedded = _embed(list(missing.values()), places, vectors, stored, model, pipeline)
    say(
        f"leakage guard: {COPY_VIEWS} views of each of {len(images)} excluded images: "
        f"{readable - len(missing)} from the index's cache, {embedded} embedded, "
        f"in {time.perf_counter() - start:.1f} s, {vectors.nbytes / 1e6:.0f} MB"
    )
    return vectors


def _embed(
    missing: list[ExcludedImage],
    places: dict[bytes, list[int]],
    vectors: np.ndarray,
    stored: StoredViews,
    model: FrozenModel,
    pipeline: PipelineOptions,
) -> int:
    """Fill `vectors` for the images that are not stored, and store them; returns how many can be decoded."""
    done = 0
    changed: set[bytes] = set()

    def read(image: ExcludedImage) -> bytes:
        data = image.path.read_bytes()
        if item_id(data) != image.item_id:
            changed.add(image.item_id)
        return data

    with progress("embedding views of the excluded images", len(missing), "images") as bar:
        for image, rows in zip(missing, embed_views(model, missing, read, pipeline), strict=True):
            if rows is not None:
                done += 1
                half = rows.astype(np.float16)
                vectors[places[image.item_id]] = half
                if image.item_id not in changed:
                    stored.add(image.item_id, half)
            bar.advance()
    return done


def views_state(index: Index, model: FrozenModel) -> str:
    """Names what stored vectors depend on besides the image: encoder, runtime and the list of views."""
    runtime = astuple(model.info)[:4]
    relevant = [index.encoder_fingerprint, *runtime, COPY_VIEWS, VIEWS_VERSION]
    return hashlib.sha256(json.dumps(relevant).encode()).hexdigest()[:STATE_DIGITS]
