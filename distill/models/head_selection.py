"""The choice of a linear head: a grid of penalties, judged on val or on held-out folds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from distill.data.folds import stratified_folds
from distill.metrics import negative_log_likelihood
from distill.models.heads import LinearHead, blended, fit_heads, fit_temperature, image_weights
from transferset.errors import DataError
from transferset.progress import progress

if TYPE_CHECKING:
    from transferset.progress import Progress

STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
TEXT_SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
MIN_VAL, MIN_VAL_PER_CLASS, MIN_BALANCED = 30, 2, 5


@dataclass(frozen=True, eq=False)
class LabelledFeatures:
    """n images: `features` (n, views, d) float32, the first view being the image as evaluation sees it;
    `labels` (n,), numbers of the classes; `places` (n,): where they stand in their list, if it is known."""

    features: np.ndarray
    labels: np.ndarray
    places: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, rows: np.ndarray) -> "LabelledFeatures":
        """Some of the images."""
        places = None if self.places is None else self.places[rows]
        return LabelledFeatures(self.features[rows], self.labels[rows], places)


@dataclass(frozen=True)
class Trial:
    """One strength: what held-out images say about its head at its own best `temperature`. `loss` is what is
    minimised, `top1` the share told right, `nll_before` that of the head's own logits. `text`: how much of it
    is the head of the class names; with all of it (1) there is no strength (0)."""

    strength: float
    temperature: float
    loss: float
    top1: float
    nll_before: float
    text: float = 0.0


@dataclass(frozen=True, eq=False)
class Choice:
    """The head with its temperature, the whole grid, and the chosen head's uncalibrated logits (m, C) and
    labels (m,) on the images that judged: `judged_on`. `probe_temperature` is that of the part that was
    fitted on labels, `text` the calibrated head of the class names."""

    head: LinearHead
    trials: tuple[Trial, ...]
    chosen: Trial
    judged_on: str
    logits: np.ndarray
    labels: np.ndarray
    probe_temperature: float = 1.0
    text: LinearHead | None = None

    def refit(self, seen: LabelledFeatures, classes: int, class_weight: str) -> LinearHead:
        """The head that the same choice gives for other training images, which must have all classes."""
        chosen, weights = self.chosen, image_weights(seen.labels, class_weight)
        if self.text is not None and not chosen.strength:
            return self.text.at(self.text.temperature * chosen.temperature)
        unit_length = self.head.unit_length
        path = STRENGTHS[: STRENGTHS.index(chosen.strength) + 1]  # each fit starts from the one before
        *_, probe = fit_heads(seen.features, seen.labels, weights, path, classes, unit_length)
        return _mixed(probe, self.probe_temperature, self.text, chosen)


def choose_head(
    train: LabelledFeatures,
    val: LabelledFeatures | None,
    *,
    classes: int,
    class_weight: str,
    folds: int,
    seed: int,
    unit_length: bool = True,
    text: LinearHead | None = None,
) -> Choice:
    """Fit a head for every strength and take the one with the smallest loss at its best temperature.

    The loss, not the accuracy, chooses: it is much less noisy on few images, and the student is going to
    match probabilities. Judged on `val` if that `suffices`, else on the held-out images of stratified folds
    of `train`, all folds pooled; then the head is fitted on all of `train`. Nothing is ever fitted on `val`
    but the temperature. `unit_length`: of the features, as in `fit_heads`.

    With a head of the class names, `text`, the grid has it too, and its mixtures with the head of every
    strength: M. Wortsman et al., "Robust fine-tuning of zero-shot models" (2022), for the last layer. Both
    sides of a mixture are calibrated; the text head's temperature is fitted on `train`, which it never saw.

    Raises DataError where nothing can be held out (one image a class).
    """
    use_val = val is not None and why_val_does_not_suffice(val.labels, classes, class_weight) is None
    parts = 1 if use_val else _check_folds(train.labels, folds)
    with progress("head", len(STRENGTHS) * (parts + (not use_val)), "fits") as bar:
        fitter = _Fitter(classes, class_weight, unit_length, bar)
        if use_val and val is not None:
            labels, judged_on = val.labels, "val"
            heads = fitter.fit(train, STRENGTHS)
            held_out = [head.logits(val.features[:, 0]) for head in heads]
        else:
            fold_of = held_out_folds(train.labels, parts, seed)
            labels, judged_on = train.labels[fold_of >= 0], f"cross-validation, {parts} folds"
            held_out = _by_folds(fitter, train, fold_of)
        weights = image_weights(labels, class_weight)
        trials = [_trial(*pair, labels, weights) for pair in zip(STRENGTHS, held_out, strict=True)]
        if text is not None:
            text = _calibrated(text, train, class_weight)
            judged = val.features if use_val and val is not None else train.features[fold_of >= 0]
            mixed = _mixtures(trials, held_out, text.logits(judged[:, 0]), labels, weights)
            trials, held_out = trials + mixed[0], held_out + mixed[1]
        best = min(range(len(trials)), key=lambda number: (round(trials[number].loss, 6), number))
        chosen = trials[best]
        place = STRENGTHS.index(chosen.strength) if chosen.strength else 0
        probe = (heads if use_val and val is not None else fitter.fit(train, STRENGTHS))[place]
    temperature = trials[place].temperature
    head = _mixed(probe, temperature, text, chosen)
    return Choice(head, tuple(trials), chosen, judged_on, held_out[best], labels, temperature, text)


def _mixed(probe: LinearHead, temperature: float, text: LinearHead | None, chosen: Trial) -> LinearHead:
    """The chosen head with its temperature; that of its part `probe` was found before."""
    if text is None or not chosen.text:
        return probe.at(chosen.temperature)
    return blended(probe.at(temperature), text, chosen.text).at(chosen.temperature)


def _calibrated(text: LinearHead, train: LabelledFeatures, class_weight: str) -> LinearHead:
    weights = image_weights(train.labels, class_weight)
    return text.at(fit_temperature(text.logits(train.features[:, 0]), train.labels, weights)[0])


def _mixtures(
    trials: Sequence[Trial],
    held_out: Sequence[np.ndarray],
    by_text: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
) -> tuple[list[Trial], list[np.ndarray]]:
    """Trials, and their held-out logits, of mixtures of every strength with the text head, and of that
    alone."""
    found, logits = [], []
    for trial, own in zip(trials, held_out, strict=True):
        for share in TEXT_SHARES:
            mixture = (1 - share) * own / np.float32(trial.temperature) + share * by_text
            found.append(_trial(trial.strength, mixture, labels, weights, share))
            logits.append(mixture)
    found.append(_trial(0.0, by_text, labels, weights, 1.0))
    return found, [*logits, by_text]


@dataclass(frozen=True)
class _Fitter:
    classes: int
    class_weight: str
    unit_length: bool
    bar: "Progress"

    def fit(self, train: LabelledFeatures, strengths: Sequence[float]) -> list[LinearHead]:
        """One head for each strength."""
        weights = image_weights(train.labels, self.class_weight)
        heads = []
        given = train.features, train.labels, weights, strengths, self.classes, self.unit_length
        for head in fit_heads(*given):
            heads.append(head)
            self.bar.advance()
        return heads


def why_val_does_not_suffice(labels: np.ndarray, classes: int, class_weight: str) -> str | None:
    """Why val's `labels` cannot judge, because it is tiny; None if it can.

    Classes that val lacks are no obstacle while it has most of them: val comes from where the model is going
    to be used, while training images of a class are often shots of the same thing, which flatters folds.
    """
    if (lacking := lacks_most_classes(labels, classes)) is not None:
        return lacking
    counts = np.bincount(labels, minlength=classes)
    if len(labels) < max(MIN_VAL, MIN_VAL_PER_CLASS * classes):
        return f"it has only {len(labels)} images for {classes} classes"
    smallest = int(counts[counts > 0].min())
    if class_weight == "balanced" and smallest < MIN_BALANCED:
        return f"its smallest class has {smallest} images, too few where every class counts equally"
    return None


def lacks_most_classes(labels: np.ndarray, classes: int) -> str | None:
    """Why val's `labels` cannot judge whatever is trained, because more than half of the classes are not
    among them: what forgets these would win. None if they can."""
    present = len(np.unique(labels))
    return f"it has images of only {present} of the {classes} classes" if 2 * present < classes else None


def held_out_folds(labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """The fold of each image, (n,); -1 for the only image of a class, which is never held out."""
    fold_of = stratified_folds(labels, folds, seed)
    fold_of[np.bincount(labels)[labels] < 2] = -1
    return fold_of


def check_choosable(labels: np.ndarray, val: np.ndarray | None, classes: int, class_weight: str) -> None:
    """Raises the DataError that `choose_head` would, before features are known."""
    if val is None or why_val_does_not_suffice(val, classes, class_weight) is not None:
        _check_folds(labels, len(labels))


def check_foldable(labels: np.ndarray) -> int:
    """The images of the largest class; DataError where nothing can be held out."""
    largest = int(np.bincount(labels).max())
    if largest < 2:
        raise DataError(
            "every class has one training image: nothing can be held out to choose by",
            hint="give at least two images per class, or a val split with every class",
        )
    return largest


def _check_folds(labels: np.ndarray, folds: int) -> int:
    return min(folds, check_foldable(labels))


def _by_folds(fitter: _Fitter, train: LabelledFeatures, fold_of: np.ndarray) -> list[np.ndarray]:
    """For each strength, logits of every image that is held out once, by the head that did not see it."""
    logits = np.empty((len(STRENGTHS), len(train), fitter.classes), np.float32)
    for fold in range(fold_of.max() + 1):
        held_out = np.flatnonzero(fold_of == fold)
        if len(held_out):
            heads = fitter.fit(train.subset(np.flatnonzero(fold_of != fold)), STRENGTHS)
            logits[:, held_out] = [head.logits(train.features[held_out, 0]) for head in heads]
    return list(logits[:, fold_of >= 0])


def _trial(
    strength: float, logits: np.ndarray, labels: np.ndarray, weights: np.ndarray, text: float = 0.0
) -> Trial:
    temperature, loss = fit_temperature(logits, labels, weights)
    return Trial(
        strength=strength,
        temperature=temperature,
        loss=loss,
        top1=float(np.mean(logits.argmax(axis=1) == labels)),
        nll_before=negative_log_likelihood(logits, labels),
        text=text,
    )
