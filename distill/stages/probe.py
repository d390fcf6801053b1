"""A linear probe: the classifier of a student whose features are done, fitted on labelled images."""

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from distill.data.labelled_images import LabelledImages
from distill.loop.ledger import Ledger
from distill.models.flops import flops_per_image
from distill.models.head_selection import Choice, LabelledFeatures, choose_head
from distill.models.heads import LinearHead
from distill.models.student import Student, linear_classifier, predict
from transferset.console import say
from transferset.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

FOLDS = 5


@dataclass(frozen=True, eq=False)
class Probe:
    """`train`: features of the training images; `choice`: the head that was chosen on val or by folds."""

    train: LabelledFeatures
    choice: Choice
    classes: int
    class_weight: str

    def head(self, rows: np.ndarray | None = None) -> LinearHead:
        """The chosen head; or one that has seen only some of the training images, of all classes."""
        if rows is None:
            return self.choice.head
        return self.choice.refit(self.train.subset(rows), self.classes, self.class_weight)


def fit_probe(
    student: Student,
    train: LabelledImages,
    val: LabelledImages | None,
    ledger: Ledger,
    *,
    class_weight: str = "none",
    seed: int = 0,
) -> Probe:
    """Choose a linear head for the frozen features of `student` (see `choose_head`); the student stays as it
    is.

    Raises UsageError for a student whose last layer cannot be replaced by the head, DataError where nothing
    can be held out to choose by, NumericError for features that are not finite.
    """
    check_probe_fits(student)
    features = copy.deepcopy(student.module).eval()
    cast(Any, features).reset_classifier(0)
    images = len(train) + (len(val) if val is not None else 0)
    flops = flops_per_image(features, student.preprocessing.size, backward=False)
    with ledger.timed("probe", images, images * flops):
        seen = _look(student, features, train)
        judge = _look(student, features, val) if val is not None else None
        choice = choose_head(
            seen,
            judge,
            classes=len(student.classes),
            class_weight=class_weight,
            folds=FOLDS,
            seed=seed,
            unit_length=False,
        )
    say(f"linear probe: {100 * choice.chosen.top1:.1f} % on {choice.judged_on}")
    return Probe(seen, choice, len(student.classes), class_weight)


def _look(student: Student, features: "nn.Module", images: LabelledImages) -> LabelledFeatures:
    rows = [predict(student, features, batch) for batch in images.rendered(student.preprocessing)]
    return LabelledFeatures(np.concatenate(rows)[:, None], images.labels)


def check_probe_fits(student: Student) -> None:
    """UsageError for a student whose outputs are not one linear layer on its features."""
    layer, size = linear_classifier(student), student.preprocessing.size
    features = copy.deepcopy(student.module)
    cast(Any, features).reset_classifier(0)
    images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    found = predict(student, features, images) @ layer.weight.detach().cpu().numpy().T
    if layer.bias is not None:
        found = found + layer.bias.detach().cpu().numpy()
    if not np.allclose(found, student.logits(images), rtol=1e-3, atol=1e-3):
        raise UsageError(
            f"{student.spec} does more to its features than one linear layer", hint="choose another student"
        )


def set_classifier(student: Student, head: LinearHead) -> Student:
    """The student whose classifier gives the calibrated logits of `head`, which is fitted on its features as
    they are. Its module is changed in place.

    Raises UsageError for a model whose last layer does more than that.
    """
    import torch

    if head.unit_length:
        raise ValueError("a head for features of unit length is not a linear layer")
    layer, module = linear_classifier(student), student.module
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(head.weight / np.float32(head.temperature)))
        if layer.bias is None:
            raise UsageError(f"the classifier of {student.spec} has no bias", hint="choose another student")
        layer.bias.copy_(torch.from_numpy(head.bias / np.float32(head.temperature)))
    return replace(student, module=module, has_classifier=True)
