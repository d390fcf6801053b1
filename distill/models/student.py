"""Students: any timm model (or the embedded one) with a classifier for the task."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from distill.loop.run_directory import RESTORE, one_of_several, read_object
from transferset.errors import DataError, UsageError
from transferset.models.preprocessing import Preprocessing
from transferset.models.spec import parse_spec
from transferset.writes import read_json

if TYPE_CHECKING:
    import torch
    from torch import nn

MODEL = "model.safetensors"
CONFIG = "config.json"
LABELS = "labels.json"
PREPROCESSING = "preprocessing.json"
# What config.json says of a student's classifier.
TRAINED, PROBED, NO_CLASSIFIER = "trained", "linear probe", "none"


@dataclass(frozen=True, eq=False)
class Student:
    """A model and what it needs to be used: `module` maps normalised float (n, 3, size, size) to logits (n,
    C). `has_classifier` False: it has learnt features only, and its classifier is as it was at the start."""

    module: "nn.Module"
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    spec: str
    has_classifier: bool = True

    def inputs(self, images: np.ndarray) -> "torch.Tensor":
        """uint8 (n, size, size, 3) -> normalised float32 (n, 3, size, size) on the module's device, channels
        last."""
        import torch

        device = next(self.module.parameters()).device
        pixels = torch.from_numpy(images).to(device, non_blocking=True).permute(0, 3, 1, 2).float()
        mean = torch.tensor(self.preprocessing.mean, device=device).view(3, 1, 1) * 255.0
        std = torch.tensor(self.preprocessing.std, device=device).view(3, 1, 1) * 255.0
        return pixels.sub_(mean).div_(std)

    def logits(self, images: np.ndarray, batch_size: int = 64) -> np.ndarray:
        """Logits (n, C) float32 of uint8 (n, size, size, 3) images, in evaluation mode."""
        return predict(self, self.module, images, batch_size)


def predict(student: Student, module: "nn.Module", images: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """`Student.logits` with the weights of `module`, such as an average of the student's."""
    import torch

    training = module.training
    module.train()  # clears the attention biases that some timm models keep while they evaluate
    module.eval()
    outputs = []
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            logits = module(student.inputs(images[start : start + batch_size]))
            outputs.append(logits.float().cpu().numpy())
    module.train(training)
    return np.concatenate(outputs) if outputs else np.empty((0, len(student.classes)), dtype=np.float32)


def build_student(spec: str, classes: tuple[str, ...], image_size: int | None, seed: int) -> Student:
    """A student by its spec: `timm:NAME@none` (seeded random initialisation), `timm:NAME` (hub weights),
    `timm:NAME@FILE.safetensors`, `embedded`; its classifier starts at random, seeded.

    Raises UsageError for an unknown or unsuitable model or size, DataError where weights cannot be had.
    """

    from transferset.models.backbone import load_backbone

    parsed = parse_spec(spec)
    if parsed.family == "open_clip":
        raise UsageError(
            f"--student {spec}: a student is a timm model",
            hint="for instance timm:mobilenetv3_small_100@none",
        )
    backbone = load_backbone(parsed, image_size=image_size, seed=seed)
    module = backbone.module
    reset_classifier(module, len(classes), seed)
    module.requires_grad_(True)
    return Student(_layout(module), backbone.preprocessing, classes, str(parsed))


def reset_classifier(module: "nn.Module", width: int, seed: int) -> None:
    """Replace the last layer by one of `width` outputs that starts at random, seeded."""
    import torch

    device, model = next(module.parameters()).device, cast(Any, module)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.reset_classifier(width)
    module.to(device)


def classifier_parameters(student: Student) -> frozenset[str]:
    """Names of the last layer's parameters; UsageError where it is not one layer."""
    from torch import nn

    layer = cast(Any, student.module).get_classifier()
    if not isinstance(layer, nn.Module):
        raise UsageError(f"{student.spec} has no single classifier", hint="choose another student")
    own = {id(parameter) for parameter in layer.parameters()}
    return frozenset(name for name, p in student.module.named_parameters() if id(p) in own)


def linear_classifier(student: Student) -> "nn.Linear":
    """The last layer; UsageError where it is not one linear layer, which a head for features could
    replace."""
    from torch import nn

    layer = cast(Any, student.module).get_classifier()
    if not isinstance(layer, nn.Linear):
        raise UsageError(
            f"the classifier of {student.spec} is not a single linear layer", hint="choose another student"
        )
    return layer


def open_student(run: Path) -> Student:
    """The final student of a finished run of `distill train` or `distill finetune`, in evaluation mode, on
    the CPU.

    Raises DataError where the directory is no finished run, or its student has no classifier yet.
    """
    refuse_without_classifier(Path(run))
    return open_start(run)


def refuse_without_classifier(run: Path) -> None:
    """Raises DataError if the student of a run has learnt features only, and cannot answer yet."""
    if (run / CONFIG).is_file() and not _has_classifier(read_json(run / CONFIG)):
        raise DataError(
            f"the student in {run} has no classifier yet: it has learnt to match features, without labels",
            hint=f"give it one: distill finetune --from {run} --data LABELLED --out DIR",
        )


def _has_classifier(config: Any) -> bool:
    student = config.get("student") if isinstance(config, dict) else None
    return not isinstance(student, dict) or student.get("classifier") != NO_CLASSIFIER


def open_start(run: Path) -> Student:
    """`open_student`, also of a run whose student has no classifier yet (`has_classifier` tells)."""
    run = Path(run)
    if not (run / MODEL).is_file():
        known = (run / CONFIG).is_file()
        hint = (
            "run its command again until it is done"
            if known
            else one_of_several(run) or "give the --out of distill train or finetune"
        )
        raise DataError(f"{run} holds no finished student ({MODEL} is missing)", hint=hint)
    student = open_unfinished(run)
    load_weights(student.module, run / MODEL)
    return student


def open_unfinished(run: Path) -> Student:
    """The student of a run without its weights, in evaluation mode, on the CPU; DataError where it is
    none."""
    classes, preprocessing = read_classes(run), read_preprocessing(run)
    try:
        config = read_json(run / CONFIG)
        spec = str(config["student"]["spec"])
        module = _architecture(spec, len(classes), preprocessing.size)
    except (KeyError, TypeError, UsageError, RuntimeError) as error:
        raise DataError(f"{run / CONFIG} is not that of a student: {error}") from error
    return Student(_layout(module).eval(), preprocessing, classes, spec, _has_classifier(config))


def read_classes(directory: Path) -> tuple[str, ...]:
    """The classes of a teacher or a run, in the order of its logits; DataError where the file is damaged."""
    found = read_json(directory / LABELS)
    if not isinstance(found, list) or not found or len(set(map(str, found))) < len(found):
        raise DataError(f"{directory / LABELS} is damaged: it is not a list of distinct class names")
    return tuple(map(str, found))


def read_preprocessing(directory: Path) -> Preprocessing:
    """The preprocessing of a teacher or a run; DataError where the file is damaged."""
    path = directory / PREPROCESSING
    values = read_object(path)
    try:
        return Preprocessing.from_dict(values)
    except (TypeError, DataError) as error:
        raise DataError(f"{path} is damaged: {error}", hint=RESTORE) from error


def load_weights(module: "nn.Module", path: Path) -> None:
    """Load a safetensors file into a module; DataError where it is damaged or another model's."""
    import safetensors
    from safetensors.torch import load_file

    try:
        module.load_state_dict(load_file(path))
    except (OSError, safetensors.SafetensorError, RuntimeError) as error:
        raise DataError(
            f"{path} does not hold this student's weights: {error}", hint="train it again"
        ) from error


def _architecture(spec: str, classes: int, image_size: int) -> "nn.Module":
    """The student without weights."""
    import timm

    from transferset.models.timm_models import set_image_size

    parsed = parse_spec(spec)
    module: nn.Module = timm.create_model(parsed.name, pretrained=False, num_classes=classes)
    set_image_size(module, image_size, parsed)
    return module


def _layout(module: "nn.Module") -> "nn.Module":
    """Channels last: twice the speed for convolutions on CPUs, the usual choice on GPUs."""
    import torch

    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
