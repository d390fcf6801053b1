"""`distill replay`: a step that was not finite, once more, with a look at every layer."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.data.batches import Batch
from distill.loop.failed_steps import FailedStep, loss_from_facts, read_failed_step
from distill.loop.gradients import Gradients
from distill.loop.mode import PLAIN, Arithmetic, Mode
from distill.loop.optimizer import adamw
from distill.loop.run_directory import REPLAY, read_config
from distill.models.patch_student import patch_shape, patch_student
from distill.models.student import Student, classifier_parameters, open_unfinished, reset_classifier
from distill.stages.tuning_inputs import reopen_adapted
from transferset.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Replay:
    """What a step gave in one mode. `layer` is the first, in the order of computation, whose output is not
    finite; `gradient_layer` the first, in the order of the backward pass, whose output's gradient is not;
    `parameters` whose gradient is not. None and empty: all were finite. `rows`: images of the batch whose
    output was not finite."""

    mode: str
    loss: float | None
    gradient_norm: float | None
    layer: str | None
    gradient_layer: str | None
    parameters: list[str]
    rows: list[int]


@dataclass(frozen=True)
class ReplayReport:
    """`then`: loss and gradient norm as the run had them; `now`: the step in the run's mode and, if that was
    not fp32, in fp32 too. `bad_targets`: images whose target is not finite. `samples`: as in
    metrics.jsonl."""

    path: str
    step: int
    images: int
    samples: list[int]
    then: dict[str, str]
    bad_targets: list[int]
    now: list[Replay] = field(default_factory=list)


def replay(path: Path, device: str = "cpu") -> ReplayReport:
    """Do a step again that a run has skipped because its loss or gradient was not finite.

    `path`: the file that metrics.jsonl names, or the run, whose newest such step it is. Weights, batch,
    random numbers, parts and mode are those of the step; nothing is written. Raises DataError where there is
    no such step, or it is damaged.
    """
    import torch

    from transferset.models.runtime import resolve_device

    device = resolve_device(device)
    path = _newest(path) if path.is_dir() else path.with_suffix(".safetensors")
    failed = read_failed_step(path)
    loss = loss_from_facts(failed.loss)
    student = _student(path, failed)
    student.module.to(device)
    targets = failed.tensors["targets"]
    wrong = ~torch.isfinite(targets.float()).reshape(len(targets), -1).all(dim=1)
    modes = [failed.mode] if failed.mode.precision == PLAIN.precision else [failed.mode, PLAIN]
    return ReplayReport(
        path=str(path),
        step=failed.step,
        images=len(targets),
        samples=failed.tensors["indices"].tolist(),
        then=failed.found,
        bad_targets=torch.nonzero(wrong).flatten().tolist(),
        now=[_again(student, failed, loss, mode) for mode in modes],
    )


def _newest(run: Path) -> Path:
    folder = run if list(run.glob("step-*.safetensors")) else run / REPLAY
    kept = sorted(folder.rglob("step-*.json"), key=lambda file: file.name)
    if not kept:
        raise DataError(
            f"{run} has kept no step: none of its steps was skipped",
            hint="give a run or one of its replay files",
        )
    return kept[-1].with_suffix(".safetensors")


def _student(path: Path, failed: FailedStep) -> Student:
    """The student (or teacher) of the run that the file lies in, with the weights of the step."""
    for run in path.absolute().parents:
        if (run / "config.json").is_file():
            break
    else:
        raise DataError(f"{path} lies in no run of distill", hint="leave it where the run has written it")
    weights = {
        name.removeprefix("model."): tensor
        for name, tensor in failed.tensors.items()
        if name.startswith("model.")
    }
    if read_config(run).get("command") == "adapt":
        student = reopen_adapted(run)
    else:
        student = _as_trained(open_unfinished(run), weights, failed.tensors["targets"])
    try:
        student.module.load_state_dict(weights)
    except RuntimeError as error:
        raise DataError(f"{path} does not hold weights of {student.spec}: {error}") from error
    return student


def _as_trained(student: Student, weights: dict[str, "Tensor"], targets: "Tensor") -> Student:
    """The student with what it has in training only: a projection of patches, or outputs other than its
    classes in the place of the classifier."""
    head = classifier_parameters(student)
    shape = patch_shape(weights, head, targets.shape[-1])
    if shape is not None:
        return patch_student(student, shape, 0)
    width = next((len(weights[name]) for name in sorted(head) if name in weights), len(student.classes))
    if width != len(student.classes):
        reset_classifier(student.module, width, 0)
    return student


def _again(student: Student, failed: FailedStep, loss: Callable[..., Any], mode: Mode) -> Replay:
    module = student.module
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    arithmetic = Arithmetic(module, Mode(mode.precision, mode.channels_last))
    watched = _Watched(module)
    tensors = failed.tensors
    arrays = {name: tensors[name].numpy() for name in ("images", "targets", "indices")}
    rows = np.arange(len(arrays["images"]))
    batch = Batch(
        failed.step - 1, rows, rows, arrays["indices"], arrays["images"], rows < 0, targets=arrays["targets"]
    )
    module.train(not failed.head_only)
    if failed.head_only:
        head = classifier_parameters(student)
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name in head)
    gradients = Gradients(student, arithmetic, watched.loss(loss), parts=failed.parts)
    found = gradients.of(batch, failed.seed, adamw(module, 0.0, 0.0), failed.clip)
    parameters = [
        name
        for name, parameter in module.named_parameters()
        if parameter.grad is not None and not bool(parameter.grad.isfinite().all())
    ]
    watched.close()
    module.zero_grad(set_to_none=True)
    module.load_state_dict(state)
    numbers = [value if math.isfinite(value) else None for value in (found.loss, found.norm)]
    return Replay(
        str(mode), numbers[0], numbers[1], watched.layer, watched.gradient_layer, parameters, watched.rows
    )


class _Watched:
    """Looks at what every layer gives, and at the gradients that come back."""

    def __init__(self, module: "nn.Module") -> None:
        self.layer: str | None = None
        self.gradient_layer: str | None = None
        self.rows: list[int] = []
        self._seen = 0
        leaves = [(name, layer) for name, layer in module.named_modules() if not list(layer.children())]
        self._handles = [layer.register_forward_hook(self._hook(name)) for name, layer in leaves]

    def close(self) -> None:
        """Stop looking."""
        for handle in self._handles:
            handle.remove()

    def loss(self, loss: Callable[..., Any]) -> Callable[..., Any]:
        """The same loss, which tells the rows of outputs that are not finite."""

        def told(outputs: Any, targets: "Tensor") -> "Tensor":
            wrong = ~outputs.isfinite().reshape(len(outputs), -1).all(dim=1)
            self.rows += [self._seen + int(row) for row in wrong.nonzero()]
            self._seen += len(outputs)
            return loss(outputs, targets)  # type: ignore[no-any-return]

        return told

    def _hook(self, name: str) -> Callable[..., None]:
        def backward(gradient: "Tensor") -> None:
            if self.gradient_layer is None and not bool(gradient.isfinite().all()):
                self.gradient_layer = name

        def forward(layer: "nn.Module", inputs: Any, output: Any) -> None:
            if not hasattr(output, "isfinite"):
                return
            if self.layer is None and not bool(output.isfinite().all()):
                self.layer = f"{name} ({type(layer).__name__})"
            if output.requires_grad:
                output.register_hook(backward)

        return forward
