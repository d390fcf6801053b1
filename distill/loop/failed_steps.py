"""Steps whose loss or gradient was not finite, kept so that they can be looked at and done again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from distill.data.batches import Batch
from distill.loop.checkpoints import read_tensors, write_tensors
from distill.loop.gradients import Found
from distill.loop.mode import Mode
from transferset.errors import DataError
from transferset.writes import read_json, sha256_file, write_json

if TYPE_CHECKING:
    from torch import Tensor

KEPT = 3
_METHODS = "distill.methods."
_BATCH = ("images", "targets", "indices", "places", "numbers")


@dataclass(frozen=True)
class FailedStep:
    """A step as it was: `tensors` are the batch (`images`, `targets`, `indices`, …) and, as `model.NAME`, the
    weights and buffers before it; `seed` is that of its random numbers, `parts` those of its batch. `loss` is
    described by `loss_facts` (None: it is none of ours). `found`: what it gave, as text."""

    step: int
    seed: int
    parts: int
    clip: float
    head_only: bool
    mode: Mode
    loss: dict[str, Any] | None
    found: dict[str, str]
    tensors: dict[str, "Tensor"]


class FailedSteps:
    """The newest few of a run, each `step-00000123.safetensors` and, written after it, a JSON file."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def keep(self, failed: FailedStep) -> Path:
        """Write a step, and remove all but the newest few."""
        path = self.directory / f"step-{failed.step:08d}.safetensors"
        write_tensors(path, failed.tensors)
        facts = {field.name: getattr(failed, field.name) for field in fields(failed)}
        facts |= {"mode": failed.mode.to_dict(), "sha256": sha256_file(path)}
        del facts["tensors"]
        write_json(path.with_suffix(".json"), facts)
        for old in sorted(self.directory.glob("step-*.safetensors"))[:-KEPT]:
            old.with_suffix(".json").unlink(missing_ok=True)
            old.unlink()
        return path


def failed_step(
    batch: Batch,
    state: Mapping[str, "Tensor"],
    found: Found,
    loss: Callable[..., Any],
    **facts: Any,
) -> FailedStep:
    """Describe a step; `state` is that of the model before it."""
    import torch

    tensors = {f"model.{name}": tensor for name, tensor in state.items()}
    for name in _BATCH:
        values = getattr(batch, name)
        if values is not None:
            tensors[name] = torch.as_tensor(values)
    told = {"loss": str(found.loss), "gradient_norm": str(found.norm)}
    return FailedStep(loss=loss_facts(loss), found=told, tensors=tensors, **facts)


def read_failed_step(path: Path) -> FailedStep:
    """A step that was kept; DataError where it is missing or damaged."""
    facts = read_json(path.with_suffix(".json"))
    try:
        if sha256_file(path) != facts.pop("sha256"):
            raise DataError(f"{path} is damaged: it is not what its JSON file describes")
        mode = Mode.from_dict(facts.pop("mode"))
        return FailedStep(**facts, mode=mode, tensors=read_tensors(path))
    except (OSError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path} is not a step that a run has kept: {error}") from error


def loss_facts(loss: Any) -> dict[str, Any] | None:
    """A loss of `distill.methods` as JSON: its class and its fields, which may be losses too; None for any
    other."""
    kind = type(loss)
    if not is_dataclass(loss) or not kind.__module__.startswith(_METHODS):
        return None
    values: dict[str, Any] = {}
    for field in fields(loss):
        value = getattr(loss, field.name)
        parts = value if isinstance(value, tuple) else (value,)
        told = [loss_facts(part) if callable(part) else part for part in parts]
        if any(callable(part) and fact is None for part, fact in zip(parts, told)):
            return None
        values[field.name] = told if isinstance(value, tuple) else told[0]
    return {"class": f"{kind.__module__}:{kind.__name__}", "fields": values}


def loss_from_facts(facts: Any) -> Callable[..., Any]:
    """The inverse of `loss_facts`; DataError where the description is not one of its own."""
    try:
        module, _, name = str(facts["class"]).partition(":")
        if not module.startswith(_METHODS):
            raise DataError(f"{facts['class']} is not a loss of distill")
        kind = getattr(import_module(module), name)
        if not isinstance(kind, type) or not is_dataclass(kind):
            raise DataError(f"{facts['class']} is not a loss of distill")
        values = {key: _value(value) for key, value in facts["fields"].items()}
        return cast("Callable[..., Any]", kind(**values))
    except (ImportError, AttributeError, KeyError, TypeError) as error:
        raise DataError(f"the loss of the step is not described as ours are: {error}") from error


def _value(value: Any) -> Any:
    """A field of a loss: itself a loss, several of them, or plain."""
    if isinstance(value, list):
        return tuple(_value(part) for part in value)
    return loss_from_facts(value) if isinstance(value, dict) and "class" in value else value
