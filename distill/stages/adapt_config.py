"""How config.json records what `distill adapt` is given."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from distill.data.adaptation_sets import AdaptationSets
from distill.models.teacher import backbone_facts
from distill.models.text_head import TextOptions
from distill.splits.checked import CheckedSet
from distill.stages.adapt_options import AUTO, FROZEN, TEXT, AdaptOptions
from distill.stages.tuning_inputs import tuning_recipe

if TYPE_CHECKING:
    from transferset.models.backbone import Backbone


def uses_text(options: AdaptOptions, backbone: "Backbone") -> bool:
    """Whether the head starts from the names of the classes too."""
    trained = backbone.text is not None and not backbone.spec.is_random
    told = options.init == TEXT or options.text != TextOptions()
    return told or (options.init == AUTO and trained)


def _tuning_arguments(options: AdaptOptions, images: int) -> dict[str, Any] | None:
    """The recipe and the rest; None for a frozen backbone."""
    if options.tuning.mode == FROZEN:
        return None
    recipe = asdict(tuning_recipe(options, images))
    rest = {**asdict(options.tuning)}
    del rest["plan"]
    for free in ("checkpoint_every", "log_every", "seed"):
        del recipe[free]
    return {**recipe, **rest}


def config(
    options: AdaptOptions,
    checked: CheckedSet,
    sets: AdaptationSets,
    backbone: "Backbone",
    resolved: dict[str, Any] | None,
) -> dict[str, Any]:
    """config.json: `arguments` and `inputs` are what a resumed run must agree with."""
    text = options.text.sentences(sets.classes) if uses_text(options, backbone) else None
    return {
        "command": "adapt",
        "arguments": {
            "teacher": options.teacher,
            "image_size": backbone.preprocessing.size,
            "flip": options.flip,
            "class_weight": options.class_weight,
            "folds": options.folds,
            "seed": options.seed,
            "max_pixels": options.max_pixels,
            "tuning": _tuning_arguments(options, len(sets.train.images)),
            "text": [list(one) for one in text] if text else None,
        },
        "inputs": {
            "classes": len(sets.classes),
            "train_images": len(sets.train.images),
            "val_images": len(sets.val.images),
            "data_sha256": checked.fingerprint,
            "images_sha256": sets.fingerprint,
            "weights_sha256": backbone.weights_sha256,
        },
        "resolved": resolved,
        "backbone": backbone_facts(backbone, options.seed),
    }
