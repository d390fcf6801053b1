"""Labelled images for training and scoring: all of them looked at first, so that labels and images stay
together."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill.data.samples import ImageReader, Samples, samples_of_files
from transferset.console import say
from transferset.errors import DataError
from transferset.labelled import LabelledImage
from transferset.models.preprocessing import Preprocessing


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """n readable images of `reader` with `labels` (n,) int64, numbers of `classes`; `dropped` says what was
    not readable, and why."""

    reader: ImageReader
    labels: np.ndarray
    classes: tuple[str, ...]
    dropped: dict[str, str]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def samples(self) -> Samples:
        """Where the images are."""
        return self.reader.samples

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the list of the images, their labels and the classes."""
        digest = hashlib.sha256(f"{self.samples.fingerprint} {json.dumps(self.classes)}".encode())
        digest.update(self.labels.astype("<i8").tobytes())
        return digest.hexdigest()

    def subset(self, rows: np.ndarray) -> "LabelledImages":
        """Some of the images, decoded images shared."""
        return LabelledImages(self.reader.subset(rows), self.labels[rows], self.classes, {})

    def rendered(self, preprocessing: Preprocessing, batch_size: int = 64) -> Iterator[np.ndarray]:
        """Batches (b, size, size, 3) uint8 of all images in order, as evaluation shows them to a model.

        Raises GoneError where an image cannot be read any more: no other one has its label.
        """
        for start in range(0, len(self), batch_size):
            rows = range(start, min(start + batch_size, len(self)))
            yield np.stack([preprocessing.render(self.reader.image(row).rgb) for row in rows])


def read_labelled_images(
    images: Sequence[LabelledImage],
    classes: tuple[str, ...],
    *,
    decode_size: int | None,
    cache_bytes: int,
    what: str,
) -> LabelledImages:
    """Check and, as far as `cache_bytes` goes, keep the images. `what` names the set in errors (`train images
    of …`).

    Raises DataError for a label that is not one of `classes`, and for a class of the set without a readable
    image.
    """
    known = {name: number for number, name in enumerate(classes)}
    unknown = sorted({str(image.label) for image in images if image.label not in known})
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise DataError(
            f"{what}: {', '.join(unknown[:3])}{more} not among the {len(classes)} classes of the model",
            hint=f"the model knows {', '.join(classes[:8])}" + (", …" if len(classes) > 8 else ""),
        )
    labels = np.array([known[str(image.label)] for image in images], dtype=np.int64)
    every = ImageReader(
        samples_of_files([image.path for image in images]), decode_size, cache_bytes=cache_bytes
    )
    readable = np.array(every.check(range(len(images))), dtype=np.int64)
    lost = sorted(set(labels.tolist()) - set(labels[readable].tolist()))
    if lost:
        reason = next(iter(every.dropped.items()))
        raise DataError(
            f"{what}: no readable image of class {', '.join(classes[number] for number in lost)}"
            f" ({Path(reason[0]).name}: {reason[1]})"
        )
    if every.dropped:
        name, why = next(iter(every.dropped.items()))
        say(f"{len(every.dropped)} of {len(images)} {what} could not be read; the first: {name}: {why}")
    reader = every.subset(readable)
    reader.checked = True
    return LabelledImages(reader, labels[readable], classes, dict(every.dropped))
