"""plan.json: what an index is built with. Written before anything else; every later run obeys it."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from curate.index.layout import FORMAT_VERSION, PLAN
from curate.index.manifest import require_format
from curate.pools import Roots
from transferset.errors import DataError, UsageError
from transferset.models.spec import LOCAL_DIR, ModelSpec, parse_spec
from transferset.writes import read_json, write_json


@dataclass(frozen=True)
class EncoderPlan:
    """The encoder. `image_size` is what the user asked for (None: the model's own), `fingerprint` covers the
    weights and the preprocessing."""

    spec: str
    fingerprint: str
    weights_sha256: str
    dimension: int
    image_size: int | None
    seed: int
    preprocessing: dict[str, Any]


@dataclass(frozen=True)
class RuntimePlan:
    """What runs the encoder. All of it can change a bit of an embedding, the batch size and threads
    included."""

    runtime: str
    precision: str
    version: str
    device: str
    batch_size: int
    threads: int


@dataclass(frozen=True)
class Plan:
    """The whole of plan.json except the inputs, which grow and move (`Roots`)."""

    encoder: EncoderPlan
    runtime: RuntimePlan
    max_pixels: int
    versions: dict[str, str]
    id_kind: str = "bytes"

    @property
    def fingerprint(self) -> str:
        """SHA-256 over everything that embeddings depend on on one kind of machine; library versions are not
        in it."""
        relevant = {
            "encoder": self.encoder.fingerprint,
            "dimension": self.encoder.dimension,
            "runtime": [
                self.runtime.runtime,
                self.runtime.precision,
                self.runtime.batch_size,
                self.runtime.threads,
            ],
            "max_pixels": self.max_pixels,
            "id_kind": self.id_kind,
        }
        return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()


def read_plan(index: Path, moved: dict[str, str] | None = None) -> tuple[Plan, Roots]:
    """The plan of an index and its roots as of now; DataError if it is missing, damaged or of another
    format."""
    path = Path(index) / PLAN
    if not path.is_file():
        raise DataError(f"{index} is not an index: it has no {PLAN}", hint="curate build-index makes one")
    content = read_json(path)
    try:
        version = content["format_version"]
        require_format(version, path)
        plan = Plan(
            EncoderPlan(**content["encoder"]),
            RuntimePlan(**content["runtime"]),
            int(content["max_pixels"]),
            dict(content["versions"]),
            str(content["id_kind"]),
        )
        return plan, Roots.from_dicts(Path(index), content["inputs"], moved)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged: {type(error).__name__} {error}") from error


def write_plan(index: Path, plan: Plan, roots: Roots) -> None:
    """Write plan.json."""
    content = {"format_version": FORMAT_VERSION, "inputs": roots.to_dicts(), **asdict(plan)}
    write_json(Path(index) / PLAN, content)


@dataclass(frozen=True)
class Asked:
    """What the command line asks for of a plan; None: what the plan says, or the default."""

    encoder: str | None = None
    image_size: int | None = None
    runtime: str | None = None
    batch_size: int | None = None
    max_pixels: int | None = None
    seed: int | None = None
    threads: int | None = None
    precision: str | None = None

    def differences(self, plan: Plan) -> list[str]:
        """How the plan differs from what is asked for, as lines to read."""
        told = [
            ("--image-size", self.image_size, plan.encoder.preprocessing["size"]),
            ("--runtime", None if self.runtime == "auto" else self.runtime, plan.runtime.runtime),
            ("--precision", None if self.precision == "auto" else self.precision, _asked_precision(plan)),
            ("--batch-size", self.batch_size, plan.runtime.batch_size),
            ("--max-pixels", self.max_pixels, plan.max_pixels),
            ("--seed", self.seed, plan.encoder.seed),
            ("--threads", self.threads, plan.runtime.threads),
        ]
        lines = [
            f"{name} {new}, the index has {old}" for name, new, old in told if new is not None and new != old
        ]
        if self.encoder is not None and not _may_be_the_same(self.encoder, plan.encoder.spec):
            lines.insert(0, f"--encoder {self.encoder}, the index has {plan.encoder.spec}")
        return lines

    def names_other_weights(self, plan: Plan) -> bool:
        """Whether only loading the encoder can tell if it is the plan's: weights in another place."""
        return self.encoder is not None and parse_spec(self.encoder) != parse_spec(plan.encoder.spec)


def _asked_precision(plan: Plan) -> str:
    """The plan's precision as `--precision` names it."""
    return {"f32": "fp32", "f16": "fp16"}.get(plan.runtime.precision, plan.runtime.precision)


def _may_be_the_same(asked: str, planned: str) -> bool:
    """Whether two specs can stand for the same weights: equal, or files in different places."""
    new, old = parse_spec(asked), parse_spec(planned)
    if (new.family, new.name) != (old.family, old.name):
        return False
    return new.weights == old.weights or (has_weights_file(new) and has_weights_file(old))


def has_weights_file(spec: ModelSpec) -> bool:
    """Whether a spec names its weights by a path."""
    return spec.name == LOCAL_DIR or spec.weights.endswith(".safetensors")


def refuse(index: Path, differences: list[str]) -> None:
    """UsageError naming the differences, if there are any."""
    if differences:
        raise UsageError(
            f"{index} was built with other settings: " + "; ".join(differences),
            hint="leave these options out to continue with it, or give another --index",
        )
