"""The head that a model's text tower gives, from the names of the classes alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from distill.models.heads import LinearHead
from transferset.errors import DataError, NumericError, UsageError
from transferset.prompts import (
    TEMPLATES,
    check_class_names,
    check_templates,
    phrase,
    prompts,
    text_vector,
    valid_text,
)

if TYPE_CHECKING:
    from transferset.models.backbone import Backbone


@dataclass(frozen=True)
class TextOptions:
    """How classes are named: in `templates`, as `class_names` says or by their labels."""

    templates: tuple[str, ...] = TEMPLATES
    class_names: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_templates(self.templates)

    def sentences(self, classes: Sequence[str]) -> list[tuple[str, ...]]:
        """Those of each class; UsageError for a name of a class that there isn't."""
        check_class_names(self.class_names, [valid_text(name) for name in classes])
        return [prompts(phrase(valid_text(name), self.class_names), self.templates) for name in classes]


def require_text_tower(backbone: "Backbone") -> None:
    """UsageError for a model that cannot embed the names of classes."""
    if backbone.text is None:
        raise UsageError(
            f"{backbone.spec} has no text tower and can't embed class names",
            hint="leave out --init text, --class-names and --templates, or adapt an open_clip model",
        )


def text_head(backbone: "Backbone", classes: Sequence[str], options: TextOptions) -> LinearHead:
    """The zero-shot classifier of CLIP (Radford et al., 2021): logits are cosines to the text vectors of the
    classes, uncalibrated.

    Raises UsageError for a model without a text tower, DataError where the tower cannot be had, NumericError
    where its vectors are not finite.
    """
    require_text_tower(backbone)
    assert backbone.text is not None
    try:
        vectors = [text_vector(backbone.text.encode, one) for one in options.sentences(classes)]
    except DataError as error:
        raise DataError(
            error.message, hint="complete the model, or start from the labels alone with --init probe"
        ) from error
    weight = np.stack(vectors).astype(np.float32)
    if not np.isfinite(weight).all():
        raise NumericError(f"the text tower of {backbone.spec} gives vectors that are not finite")
    if weight.shape[1] != backbone.dimension:
        raise DataError(
            f"{backbone.spec}: text vectors have {weight.shape[1]} numbers, image vectors "
            f"{backbone.dimension}",
            hint="start from the labels alone with --init probe",
        )
    return LinearHead(weight, np.zeros(len(weight), np.float32))
