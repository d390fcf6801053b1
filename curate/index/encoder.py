"""The encoder of an index: loaded as the plan says, or making the plan."""

import importlib.metadata
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from curate.index.options import DEFAULT_BATCH_SIZE, DEFAULT_ENCODER, DEFAULT_MAX_PIXELS, BuildOptions
from curate.index.plan import EncoderPlan, Plan, RuntimePlan, has_weights_file
from curate.pools.roots import absolute
from transferset.console import say
from transferset.cores import available_cores
from transferset.errors import UsageError
from transferset.models.backbone import Backbone, load_backbone
from transferset.models.runtime import FrozenModel, RuntimeInfo, open_runtime
from transferset.models.spec import ModelSpec, parse_spec
from transferset.models.text import TextTower

if TYPE_CHECKING:
    from curate.index.index import Index

_LIBRARIES = (
    "transferset",
    "torch",
    "torchvision",
    "timm",
    "open_clip_torch",
    "openvino",
    "faiss-cpu",
    "numpy",
    "pyarrow",
    "pillow",
    "simplejpeg",
)


@dataclass(frozen=True)
class OpenEncoder:
    """A frozen model with the plan that it follows; `notes` say how this machine differs from the plan's.
    `text` is the text tower in the same space, where the model has one."""

    model: FrozenModel
    plan: Plan
    notes: tuple[str, ...] = ()
    text: TextTower | None = None


def library_versions() -> dict[str, str]:
    """Installed versions of what can change embeddings."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _absolute(spec: ModelSpec) -> ModelSpec:
    """Weights in a file or folder by their absolute path: the next run may start elsewhere."""
    return replace(spec, weights=absolute(spec.weights)) if has_weights_file(spec) else spec


def begin(options: BuildOptions, id_kind: str = "bytes") -> OpenEncoder:
    """Load the encoder that the options ask for and make the plan of a new index."""
    seed = options.seed or 0
    backbone = load_backbone(
        _absolute(parse_spec(options.encoder or DEFAULT_ENCODER)), image_size=options.image_size, seed=seed
    )
    batch_size = options.batch_size or DEFAULT_BATCH_SIZE
    threads = options.threads or available_cores()
    model = open_runtime(
        backbone,
        runtime=options.runtime or "auto",  # type: ignore[arg-type]
        precision=options.precision or "auto",
        batch_size=batch_size,
        device=options.device,
        threads=threads,
    )
    info = model.info
    plan = Plan(
        _encoder_plan(backbone, options.image_size, seed),
        RuntimePlan(info.runtime, info.precision, info.version, info.device, batch_size, threads),
        options.max_pixels or DEFAULT_MAX_PIXELS,
        library_versions(),
        id_kind,
    )
    return OpenEncoder(
        model, plan, (f"runtime {info.runtime}: {info.note}",) if info.note else (), backbone.text
    )


def _encoder_plan(backbone: Backbone, image_size: int | None, seed: int) -> EncoderPlan:
    return EncoderPlan(
        str(backbone.spec),
        backbone.fingerprint,
        backbone.weights_sha256,
        backbone.dimension,
        image_size,
        seed,
        backbone.preprocessing.to_dict(),
    )


def resume(plan: Plan, options: BuildOptions, *, obey_runtime: bool = True) -> OpenEncoder:
    """Load the plan's encoder and put it on the plan's runtime.

    Where that can't be had here (another machine), the encoder of a build is a UsageError; that of queries
    (`obey_runtime` False) takes what there is: vectors agree to about 1e-3, and `notes` say so. UsageError
    too if the encoder is another one now.
    """
    spec = options.encoder or plan.encoder.spec
    backbone = load_backbone(
        _absolute(parse_spec(spec)), image_size=plan.encoder.image_size, seed=plan.encoder.seed
    )
    if backbone.fingerprint != plan.encoder.fingerprint:
        raise UsageError(
            f"the encoder {spec} is not the one that the index was built with ({plan.encoder.spec}): "
            + _differences(backbone, plan.encoder),
            hint="give the encoder that the index was built with, or another --index",
        )
    model = _open_planned(backbone, plan.runtime, options.device, obey_runtime)
    if str(backbone.spec) != plan.encoder.spec:
        plan = replace(plan, encoder=replace(plan.encoder, spec=str(backbone.spec)))
    return OpenEncoder(model, plan, tuple(_runtime_notes(model.info, plan.runtime)), backbone.text)


def _open_planned(backbone: Backbone, plan: RuntimePlan, device: str, obey: bool) -> FrozenModel:
    """The plan's runtime on the plan's device, unless another device is asked for. For queries nothing is
    compiled, because that takes longer than a few images do."""
    if plan.runtime == "compile" and not obey:
        plan = replace(plan, runtime="eager", precision="f32")
    try:
        return open_runtime(
            backbone,
            runtime=plan.runtime,  # type: ignore[arg-type]
            precision=plan.precision,
            batch_size=plan.batch_size,
            device=plan.device if device == "auto" else device,
            threads=plan.threads,
        )
    except UsageError as error:
        if not obey:
            return open_runtime(backbone, batch_size=plan.batch_size, device=device, threads=plan.threads)
        raise UsageError(
            f"the index was started on {plan.runtime} on {plan.device}, and here: {error.message}",
            hint=error.hint or "continue on such a machine, or build another index",
        ) from error


def _differences(backbone: Backbone, plan: EncoderPlan) -> str:
    """What makes the fingerprints differ, in words."""
    pairs: dict[str, tuple[Any, Any]] = {"weights": (backbone.weights_sha256[:12], plan.weights_sha256[:12])}
    now = backbone.preprocessing.to_dict()
    pairs.update({name: (now.get(name), plan.preprocessing.get(name)) for name in now | plan.preprocessing})
    return (
        "; ".join(f"{name} {new}, was {old}" for name, (new, old) in pairs.items() if new != old)
        or "another name"
    )


def _runtime_notes(info: RuntimeInfo, plan: RuntimePlan) -> list[str]:
    now = (info.runtime, info.precision, info.version, info.device)
    was = (plan.runtime, plan.precision, plan.version, plan.device)
    if now == was:
        return []
    differing = ", ".join(f"{new} (was {old})" for new, old in zip(now, was, strict=True) if new != old)
    return [f"the encoder runs on {differing} here: embeddings agree with the index's to about 1e-3"]


@dataclass
class IndexEncoder:
    """The encoder of an index that is there, for queries and copies: loaded when it is first needed."""

    index: "Index"
    device: str = "auto"

    @cached_property
    def opened(self) -> OpenEncoder:
        """UsageError or DataError where it can't be had, or is another one now."""
        encoder = resume(self.index.plan, BuildOptions(device=self.device), obey_runtime=False)
        for note in encoder.notes:
            say(f"note: {note}")
        return encoder

    @property
    def model(self) -> FrozenModel:
        """Its image tower on this machine's runtime."""
        return self.opened.model

    @property
    def text(self) -> TextTower | None:
        """Its text tower, if it has one."""
        return self.opened.text
