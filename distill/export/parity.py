"""Whether a model that was written answers as the run does, on real images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distill.data.rendered import Rendering, check_readable
from transferset.console import say
from transferset.errors import NumericError
from transferset.progress import progress

REFERENCE, PILLOW = "the run", "the run on Pillow's pixels"


@dataclass(frozen=True, eq=False)
class Answers:
    """Logits of every model by name, and the places of the n readable images in the list that was asked."""

    logits: dict[str, np.ndarray]
    places: list[int]


@dataclass(frozen=True)
class Parity:
    """One model against the run: `max_difference` of any logit, the images whose largest logit is another
    (`top1_changed`), those among them that are `near_ties`, and what the selecting score of both is (None
    without labels)."""

    images: int
    max_difference: float
    top1_changed: int
    score_of_run: float | None
    score: float | None
    near_ties: int = 0

    @property
    def answers_changed(self) -> int:
        """Those that are no near ties."""
        return self.top1_changed - self.near_ties

    @property
    def drop(self) -> float | None:
        """By how much the score is below the run's."""
        if self.score is None or self.score_of_run is None:
            return None
        return self.score_of_run - self.score


def ask_all(
    models: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    paths: Sequence[Path],
    rendering: Rendering,
    what: str,
    change: Callable[[np.ndarray], np.ndarray] = lambda images: images,
) -> Answers:
    """Show the same images to all models, after a `change`; `what` is done. Raises DataError if none can be
    read."""
    logits: dict[str, list[np.ndarray]] = {name: [] for name in models}
    places: list[int] = []
    reasons: dict[int, str] = {}
    with progress(what, len(paths), "images") as bar:
        for batch in rendering.batches(paths):
            reasons.update(batch.reasons)
            rows = [row for row in range(len(batch)) if batch.start + row not in batch.reasons]
            if batch.pixels is not None and rows:
                images = change(batch.pixels[rows])
                for name, model in models.items():
                    logits[name].append(model(images))
                places += [batch.start + row for row in rows]
            bar.advance(len(batch))
    if reasons:
        place, reason = next(iter(reasons.items()))
        say(f"{len(reasons)} of {len(paths)} images could not be read; the first: {paths[place]}: {reason}")
    check_readable(paths, reasons, None, "images")
    return Answers({name: np.concatenate(parts) for name, parts in logits.items()}, places)


def joined(one: Answers, other: Answers) -> Answers:
    """The answers of both about the images that both could read."""
    places = sorted({*one.places} & {*other.places})
    logits = {
        name: found[np.isin(answers.places, places)]
        for answers in (one, other)
        for name, found in answers.logits.items()
    }
    return Answers(logits, places)


def parts_of(images: np.ndarray) -> np.ndarray:
    """Parts of decoded images, n arrays (h, w, 3), in other sizes and shapes: wide, high, small, narrow."""
    parts = images.copy()
    for place, image in enumerate(images):
        height, width = image.shape[:2]
        shapes = (
            (height, 2 * width // 3),
            (2 * height // 3, width),
            (height // 2, width // 2),
            (height, width // 4),
        )
        rows, columns = shapes[place % len(shapes)]
        parts[place] = image[: max(1, rows), : max(1, columns)]
    return parts


def compare(
    answers: Answers,
    name: str,
    labels: np.ndarray | None,
    score: Callable[[np.ndarray, np.ndarray], float],
    allowed: float = 0.0,
    reference: str = REFERENCE,
) -> Parity:
    """One model's answers beside the run's, or another `reference`; `labels` (n,) of the images, if there are
    any.

    An image whose largest logit is another is a near tie if the run's two largest ones are at most twice the
    `allowed` difference apart: as the one may lose that much and the other gain it, logits that all differ by
    no more than is allowed can change such an answer, and no other.
    """
    run, model = answers.logits[reference], answers.logits[name]
    if not np.isfinite(model).all() or not np.isfinite(run).all():
        raise NumericError(f"{name} or the run itself gives logits that are not finite")
    changed = run.argmax(axis=1) != model.argmax(axis=1)
    return Parity(
        images=len(run),
        max_difference=float(np.abs(run - model).max()),
        top1_changed=int(np.count_nonzero(changed)),
        score_of_run=None if labels is None else score(run, labels),
        score=None if labels is None else score(model, labels),
        near_ties=int(np.count_nonzero(changed & (_margins(run) <= 2 * allowed))),
    )


def _margins(logits: np.ndarray) -> np.ndarray:
    """By how much the largest logit of each image is above the next one (n,)."""
    if logits.shape[1] < 2:
        return np.full(len(logits), np.inf)
    ordered = np.partition(logits.astype(np.float64), -2, axis=1)
    margins: np.ndarray = ordered[:, -1] - ordered[:, -2]
    return margins


def changed_answers(parity: Mapping[str, Any]) -> str:
    """For people, of a parity as JSON: how many answers changed, and near ties that did."""
    ties = parity.get("near_ties", 0)
    text = f"{parity['top1_changed'] - ties} of {parity['images']}"
    return f"{text} (and {ties} near ties)" if ties else text


def check_same(parity: Parity, name: str, tolerance: float, reference: str = REFERENCE) -> None:
    """Raise NumericError where a model differs from the `reference` by more than `tolerance` in a logit, or
    in an answer that is no near tie (see `compare`, whose `allowed` is the same)."""
    if parity.max_difference > tolerance or parity.answers_changed:
        raise NumericError(
            f"{name} does not answer as {reference}: logits differ by up to {parity.max_difference:.2g}"
            f" (allowed {tolerance:.2g}) and {parity.answers_changed} of {parity.images} answers changed,"
            f" not counting {parity.near_ties} near ties",
            hint="nothing was exported; --tolerance allows larger differences of logits, and other answers"
            " where the run's two largest logits are at most twice that apart",
        )


def check_drop(parity: Parity, name: str, max_drop: float, score_name: str) -> None:
    """Raise NumericError where a model's score, called `score_name`, is below the run's by more than
    `max_drop`."""
    if parity.drop is not None and parity.drop > max_drop:
        raise NumericError(
            f"{name} loses too much: {score_name} {parity.score:.4f} where the run has"
            f" {parity.score_of_run:.4f} on {parity.images} images (allowed drop {max_drop:g})",
            hint="nothing was exported; leave out --int8, give more --calibration-images, or allow it with "
            "--max-drop",
        )
