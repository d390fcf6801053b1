"""Teachers: a foundation model, as it was or finetuned, and a linear head that knows the task."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.data.teacher_outputs import Answers
from distill.loop.run_directory import CONFIG, REPORT, read_config, read_object
from distill.models.heads import LinearHead, normalised, read_head, write_head
from distill.models.student import LABELS, PREPROCESSING, read_classes, read_preprocessing
from transferset.errors import DataError, UsageError
from transferset.models.grid import GridShape, with_grid
from transferset.models.preprocessing import Preprocessing
from transferset.models.spec import ModelSpec, parse_spec
from transferset.writes import write_json

if TYPE_CHECKING:
    from distill.methods.transfer import Output
    from transferset.models.backbone import Backbone
    from transferset.models.runtime import FrozenModel

HEAD = "head.safetensors"
BACKBONE = "backbone.safetensors"


@dataclass(frozen=True, eq=False)
class Teacher:
    """An adapted foundation model, ready to be asked.

    `logits(batch)`: uint8 (n, size, size, 3) images as `preprocessing` (or a view) renders them, n <=
    batch_size, to calibrated logits (n, C) float32: those of the head divided by its fitted temperature.
    `fingerprint` is the same for teachers that answer the same. `description` is for people. `grid`: the
    teacher was opened to be asked for patches, and for nothing else. `spec`: of the model that was adapted,
    and `costs`: what that cost, by stage.
    """

    classes: tuple[str, ...]
    head: LinearHead
    model: "FrozenModel"
    fingerprint: str
    description: str
    flops_per_image: float
    grid: GridShape | None = None
    spec: str = ""
    costs: dict[str, Any] | None = None

    @property
    def preprocessing(self) -> Preprocessing:
        """How evaluation renders an image for the model."""
        return self.model.preprocessing

    def logits(self, batch: np.ndarray) -> np.ndarray:
        """Calibrated logits (n, C) float32 of n <= batch_size images; from any thread."""
        return self._logits_of(self.model(batch))

    def facts(self) -> dict[str, Any]:
        """What runs and stores write down of it."""
        told = {"description": self.description, "spec": self.spec, "adapt_costs": self.costs}
        return {**told, **runtime_facts(self.model)}

    def answers(self, output: "Output") -> Answers:
        """One of its outputs: the calibrated logits, the features of the backbone as it gives them, alone or
        with those of its grid, or logits and, behind them, features at unit length, for which float16 will
        do: rounding turns a vector by no more than 0.0005 radians."""
        if (output == "patches") != (self.grid is not None):
            raise ValueError(f"a teacher with grid {self.grid} is not asked for {output}")
        if output in ("features", "patches"):
            return Answers(output, self.model.dimension, self.model, self.flops_per_image)
        if output == "logits and features":
            width = len(self.classes) + self.model.dimension
            halved = self.model.dimension
            return Answers(output, width, self._logits_and_features, self.flops_per_image, halved=halved)
        return Answers(output, len(self.classes), self.logits, self.flops_per_image)

    def _logits_and_features(self, batch: np.ndarray) -> np.ndarray:
        features = self.model(batch)
        return np.concatenate([self._logits_of(features), normalised(features)], axis=1)

    def _logits_of(self, features: np.ndarray) -> np.ndarray:
        """Those of n rows, always computed on as many as a batch has: BLAS may give a row other last bits
        where there are fewer."""
        rows = np.zeros((self.model.batch_size, features.shape[1]), features.dtype)
        rows[: len(features)] = features
        return self.head.logits(rows)[: len(features)]


def open_teacher(
    directory: Path,
    *,
    runtime: str = "auto",
    precision: str = "auto",
    batch_size: int = 64,
    device: str = "auto",
    threads: int | None = None,
    grid: bool = False,
) -> Teacher:
    """Open what `distill adapt` wrote. The weights of a frozen backbone come from where its spec says and
    must be the same; those of a finetuned one are in the directory. `grid`: to be asked for patches.

    Raises DataError where the directory is no finished teacher, is damaged, or the weights cannot be had or
    are others; UsageError for a runtime or device that cannot be used, or a backbone without a grid.
    """
    from distill.models.flops import flops_per_image
    from transferset.models.runtime import open_runtime

    directory = Path(directory)
    config = read_config(directory, "adapt")
    report = _read_report(directory)
    head = read_head(directory / HEAD)
    classes = read_classes(directory)
    backbone = _load_backbone(directory, config)
    fingerprint = teacher_fingerprint(backbone, head, classes)
    if fingerprint != report.get("fingerprint"):
        raise DataError(
            f"{directory} is damaged: head, labels or preprocessing are not those that its report describes",
            hint="restore the directory, or adapt the teacher again",
        )
    shape = None
    if grid:
        backbone, shape = with_grid(backbone)
    flops = flops_per_image(backbone.module, backbone.preprocessing.size, backward=False)
    model = open_runtime(
        backbone,
        runtime=check_runtime(runtime),
        precision=check_precision(precision),
        batch_size=batch_size,
        device=device,
        threads=threads,
    )
    tuned = ", finetuned," if is_tuned(config) else ""
    spec = str(backbone.spec.public)
    description = (
        f"{spec} at {backbone.preprocessing.size} px{tuned} with a linear head for {len(classes)} classes"
    )
    costs = report.get("costs") if isinstance(report.get("costs"), dict) else None
    return Teacher(classes, head, model, fingerprint, description, flops, shape, spec, costs)


def _read_report(directory: Path) -> dict[str, Any]:
    if not (directory / REPORT).is_file():
        raise DataError(
            f"the teacher in {directory} is not finished", hint="run distill adapt again until it is done"
        )
    return read_object(directory / REPORT)


def check_runtime(runtime: str) -> Any:
    """The name of a runtime, checked; UsageError for any other."""
    from transferset.models.runtime import RUNTIMES

    if runtime not in RUNTIMES:
        raise UsageError(f"unknown --runtime {runtime!r}", hint=f"one of: {', '.join(RUNTIMES)}")
    return runtime


def check_precision(precision: str) -> str:
    """The name of a precision, checked, also as a run records it; UsageError for any other."""
    from transferset.models.runtime import PRECISIONS

    if precision not in PRECISIONS and precision not in PRECISIONS.values():
        raise UsageError(f"unknown --precision {precision!r}", hint=f"one of: {', '.join(PRECISIONS)}")
    return precision


def _load_backbone(directory: Path, config: dict[str, Any]) -> "Backbone":
    from transferset.models.backbone import load_backbone, reload_backbone

    try:
        facts = config["backbone"]
        spec, expected, seed = str(facts["spec"]), str(facts["weights_sha256"]), int(facts["seed"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{directory / CONFIG} is not that of a teacher: {error!r}") from error
    preprocessing = read_preprocessing(directory)
    if is_tuned(config):
        weights = directory / BACKBONE
        backbone = reload_backbone(spec, weights, image_size=preprocessing.size, seed=seed)
        if backbone.weights_sha256 != expected:
            raise DataError(
                f"{weights} is damaged: its weights are not those that {CONFIG} names",
                hint="restore the directory, or adapt the teacher again",
            )
        return replace(backbone, preprocessing=preprocessing)
    backbone = load_backbone(spec, image_size=preprocessing.size, seed=seed)
    if backbone.weights_sha256 != expected:
        raise DataError(
            f"the weights of {spec} are not those that the teacher in {directory} was adapted with: SHA-256 "
            f"{backbone.weights_sha256[:12]}… instead of {expected[:12]}…",
            hint="put the old weights back, or adapt the teacher again",
        )
    return replace(backbone, preprocessing=preprocessing)


def is_tuned(config: dict[str, Any]) -> bool:
    """Whether the directory of a teacher, by its config.json, holds the weights of its backbone."""
    facts = config.get("backbone")
    return isinstance(facts, dict) and facts.get("file") == BACKBONE


def write_teacher(
    out: Path, backbone: "Backbone", head: LinearHead, classes: tuple[str, ...], tuned_with_seed: int | None
) -> str:
    """Write everything but the report, which marks the teacher as done; returns its fingerprint.

    `tuned_with_seed`: the run's seed, where the backbone was finetuned: then its weights are written as well,
    and config.json, which describes the model that was given, is made to say so.
    """
    from distill.loop.checkpoints import write_tensors

    write_json(out / LABELS, list(classes))
    write_json(out / PREPROCESSING, backbone.preprocessing.to_dict())
    if tuned_with_seed is not None:
        write_tensors(out / BACKBONE, backbone.module.state_dict())
        facts = {**backbone_facts(backbone, tuned_with_seed), "file": BACKBONE}
        write_json(out / CONFIG, {**read_config(out), "backbone": facts})
    write_head(out / HEAD, head)
    return teacher_fingerprint(backbone, head, classes)


def backbone_facts(backbone: "Backbone", seed: int) -> dict[str, Any]:
    """What config.json says of the backbone, so that it can be loaded again from any working directory."""
    return {
        "spec": str(_absolute(backbone.spec)),
        "weights_sha256": backbone.weights_sha256,
        "fingerprint": backbone.fingerprint,
        "dimension": backbone.dimension,
        "seed": seed,
    }


def teacher_fingerprint(backbone: "Backbone", head: LinearHead, classes: tuple[str, ...]) -> str:
    """SHA-256 over the backbone's fingerprint, the head with its temperature, and the classes."""
    digest = hashlib.sha256(json.dumps([backbone.fingerprint, list(classes), head.temperature]).encode())
    for tensor in (head.weight, head.bias):
        digest.update(np.ascontiguousarray(tensor, dtype="<f4").tobytes())
    return digest.hexdigest()


def _absolute(spec: ModelSpec) -> ModelSpec:
    path = Path(spec.weights)
    is_file = spec.weights.endswith(".safetensors") or (spec.family == "open_clip" and path.exists())
    return replace(spec, weights=str(path.resolve())) if is_file else spec


def parse_teacher_spec(text: str) -> ModelSpec:
    """The spec of `--teacher`; UsageError naming the option where it is none."""
    if Path(text).is_dir() and (Path(text) / CONFIG).is_file():
        raise UsageError(
            f"--teacher {text} is a directory; adapt takes the model to adapt", hint="for instance embedded"
        )
    return parse_spec(text)


def runtime_facts(model: "FrozenModel") -> dict[str, Any]:
    """Runtime, precision, version and device, as JSON."""
    return asdict(model.info)
