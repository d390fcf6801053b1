"""What the finetuning of a teacher's backbone is given, what it finds, and the files of its pieces."""

import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.data.labelled_images import LabelledImages
from distill.loop.checkpoints import read_tensors, write_tensors
from distill.loop.ledger import Ledger
from distill.loop.mode import Mode
from distill.loop.recipe import Recipe
from distill.loop.run_directory import CONFIG, RunDirectory, read_config
from distill.models.adapted import Adapted
from distill.models.head_selection import Choice, LabelledFeatures
from distill.models.heads import LinearHead
from distill.models.student import Student
from distill.stages.adapt_options import EPOCHS, LR, PARTIAL, AdaptOptions, Tuning
from transferset.errors import DataError
from transferset.models.spec import parse_spec

if TYPE_CHECKING:
    from transferset.models.backbone import Backbone
    from transferset.models.runtime import FrozenModel


@dataclass(frozen=True)
class Candidate:
    """A teacher that was tried: `step` of finetuning (0: the frozen one), what held-out images say of it at
    its own best `temperature` (`loss` is what is minimised), and `score`, that must not fall below the frozen
    teacher's: top-1, or balanced accuracy where every class counts equally."""

    step: int
    loss: float
    score: float
    temperature: float


@dataclass(frozen=True, eq=False)
class Tuned:
    """The candidates and the place of the `chosen` one; if it is not the frozen teacher, its `backbone` and
    `head`, and its uncalibrated logits on the images that judged."""

    candidates: tuple[Candidate, ...]
    chosen: int
    logits: np.ndarray
    backbone: "Backbone | None" = None
    head: LinearHead | None = None
    skipped_steps: int = 0


@dataclass(frozen=True, eq=False)
class TuningInputs:
    """The frozen teacher (`backbone` on its runtime `frozen`, the `choice` of its head) and the images: those
    of `train`, with their `features`, and those of val where it judges."""

    options: AdaptOptions
    run: RunDirectory
    classes: tuple[str, ...]
    backbone: "Backbone"
    frozen: "FrozenModel"
    choice: Choice
    features: LabelledFeatures
    train: LabelledImages
    val: LabelledImages | None
    recipe: Recipe
    mode: Mode
    ledger: Ledger


def build_adapted(tuning: Tuning, backbone: "Backbone", classes: tuple[str, ...]) -> Student:
    """The model that learns, as the loop wants it; UsageError for a number of blocks that it has not."""
    import torch

    module = Adapted(copy.deepcopy(backbone.module), len(classes), backbone.dimension)
    module.requires_grad_(True)
    if tuning.mode == PARTIAL:
        module.tune_last(tuning.blocks)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Student(module, backbone.preprocessing, classes, str(backbone.spec))


def reopen_adapted(run: Path) -> Student:
    """The model that a run of `distill adapt` finetunes, with any head, its classes called by their numbers;
    DataError where the run's config.json is damaged."""
    from transferset.models.backbone import load_backbone

    config = read_config(run, "adapt")
    try:
        arguments, facts = config["arguments"], config["backbone"]
        tuning = Tuning(mode=str(arguments["tuning"]["mode"]), blocks=int(arguments["tuning"]["blocks"]))
        spec, size, seed = str(facts["spec"]), int(arguments["image_size"]), int(facts["seed"])
        names = tuple(map(str, range(int(config["inputs"]["classes"]))))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{run / CONFIG} is not that of a teacher that is finetuned: {error!r}") from error
    return build_adapted(tuning, load_backbone(parse_spec(spec), image_size=size, seed=seed), names)


def tuning_recipe(options: AdaptOptions, images: int) -> Recipe:
    """How long and how fast, for so many training images."""
    recipe = options.tuning.plan.recipe(images, EPOCHS, LR, options.seed)
    return replace(recipe, layer_decay=options.tuning.layer_decay)


def candidates_as_json(tuned: Tuned) -> list[dict[str, Any]]:
    """For report.json."""
    return [asdict(candidate) for candidate in tuned.candidates]


def held_out_path(directory: Path, step: int) -> Path:
    """Where the logits of held-out images after a step are kept."""
    return directory / f"held-out-{step:08d}.safetensors"


def write_logits(path: Path, logits: np.ndarray) -> None:
    """Write logits (n, C)."""
    import torch

    write_tensors(path, {"logits": torch.from_numpy(logits)})


def read_logits(path: Path) -> np.ndarray:
    """The inverse; DataError where the file is damaged."""
    found: np.ndarray = read_tensors(path)["logits"].numpy()
    return found
