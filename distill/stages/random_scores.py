"""How much random images of a pool look on task to a teacher: what the images of a transfer set are measured
against."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from distill.data.image_stream import ImageRef, list_images
from distill.data.label_shards import Unit
from distill.data.labelling import Labelling
from distill.data.samples import ImageReader, Samples, samples_of_files
from distill.finished.rejection import draw
from transferset.errors import DataError
from transferset.progress import progress

_AT_ONCE = 128
_DECIMALS = 4


@dataclass(frozen=True)
class RandomScores:
    """The `scores` of the readable ones of some images, drawn by `seed` from `pool`, in ascending order."""

    scores: tuple[float, ...]
    unreadable: int
    pool: tuple[str, ...]
    seed: int

    def to_json(self) -> str:
        """As the table's metadata holds it."""
        return json.dumps(asdict(self))


def random_scores(
    paths: Sequence[str], count: int, labelling: Labelling, decode_size: int, views: int
) -> RandomScores:
    """Draw `count` images of folders, tars, … and score them as the table scores those of the transfer set:
    the mean log-sum-exp of the teacher's logits for the same kind of views, decoded the same way.

    Raises DataError where none can be read, NumericError.
    """
    drawn = draw(list_images(paths), count, labelling.seed)
    samples = _samples(drawn)
    reader, found = ImageReader(samples, decode_size), []
    unit = Unit("random images", np.arange(len(samples)), views)
    with progress("score random images", len(samples), "images") as bar:
        for start in range(0, len(samples), _AT_ONCE):
            for part in labelling.piece(reader, unit, start, min(start + _AT_ONCE, len(samples))):
                if isinstance(part, int):
                    bar.advance(part)
                else:
                    found.append(part["log_sum_exp"][part["readable"].astype(bool)].mean(axis=1))
    scores = np.sort(np.concatenate(found)) if found else np.empty(0, np.float32)
    if not len(scores):
        raise DataError(f"none of the {len(samples)} images of --reject-from can be read")
    told = tuple(round(float(score), _DECIMALS) for score in scores)
    names = tuple(Path(path).name for path in paths)
    return RandomScores(told, len(samples) - len(scores), names, labelling.seed)


def _samples(images: Sequence[ImageRef]) -> Samples:
    """Images of tars and files as samples whose ids are not known."""
    files = samples_of_files([image.path for image in images])
    inside = np.array([image.offset is not None for image in images], dtype=bool)
    offset = np.array([image.offset or 0 for image in images], dtype=np.int64)
    size = np.where(inside, np.array([image.size for image in images], dtype=np.int64), files.size)
    return Samples(files.sources, files.source, offset, size, files.ids, files.copy, files.repeats)
