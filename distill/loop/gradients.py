"""The gradient of a batch: in one go, or in parts where that is asked for or the memory takes no more."""

import gc
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.data.batches import Batch
from distill.loop.mode import Arithmetic
from distill.models.student import Student
from transferset.errors import OutOfMemoryError
from transferset.known_errors import is_memory_error

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

# What oneDNN says on a CPU where its memory does not suffice, of layers that have run on fewer images.
_ONEDNN_WORDS = re.compile(r"could not (create|execute) a (primitive|memory)")

Loss = Callable[[Any, "Tensor"], "Tensor"]


@dataclass(frozen=True)
class Found:
    """What a batch gave: its loss and the norm of its gradient, before clipping."""

    loss: float
    norm: float

    @property
    def finite(self) -> bool:
        """Whether it can be learnt from."""
        return math.isfinite(self.loss) and math.isfinite(self.norm)


class Gradients:
    """Computes gradients of `loss` in `parts` parts of a batch, which are added up: each weighs as much as it
    has images, so that a loss that is the mean of its images' losses keeps its gradient. Batch norm sees the
    images of a part only, and at least two, whatever `parts` says.

    `divisible`: whether the loss is such a mean; a loss that compares the images of a batch is not, and its
    batches stay whole. Where the memory does not suffice, the parts are halved and the batch is done again.
    """

    def __init__(
        self, student: Student, arithmetic: Arithmetic, loss: Loss, *, parts: int = 1, divisible: bool = True
    ) -> None:
        self.student = student
        self.arithmetic = arithmetic
        self.loss = loss
        self.parts = parts
        self.divisible = divisible
        self._parameters = list(student.module.parameters())
        self._buffers = list(student.module.buffers())
        self._before = [buffer.clone() for buffer in self._buffers]
        self._reason = ""
        self._least = 2 if _has_batch_norm(student) else 1

    def of(self, batch: Batch, seed: int, optimizer: "Optimizer", clip: float) -> Found:
        """Leave the gradient of a batch, of a norm of at most `clip`, in the parameters; random numbers come
        from `seed`. Raises OutOfMemoryError where not even the smallest parts fit."""
        import torch

        _copy(self._buffers, self._before)
        while True:
            torch.manual_seed(seed)
            optimizer.zero_grad(set_to_none=True)
            loss = self._attempt(batch)
            if loss is None:
                self.undo()
                self._halve(batch)
                continue
            self.arithmetic.unscale(optimizer)
            norm = torch.nn.utils.clip_grad_norm_(self._parameters, clip, foreach=True)
            found = Found(*torch.stack([loss, norm.to(loss)]).tolist())
            if not self.arithmetic.adjust(found.finite) or not math.isfinite(found.loss):
                return found
            self.undo()

    def undo(self) -> None:
        """Put the running statistics back to what they were before the last batch."""
        _copy(self._before, self._buffers)

    def _attempt(self, batch: Batch) -> "Tensor | None":
        """The loss; None: the memory did not suffice. What the failed attempt held is free on return."""
        try:
            return self._add_up(batch)
        except (RuntimeError, MemoryError) as error:
            if not is_memory_error(error) and not _ONEDNN_WORDS.search(str(error)):
                raise
            self._reason = str(error).partition("\n")[0] or type(error).__name__
            return None

    def _add_up(self, batch: Batch) -> "Tensor":
        total: Tensor | None = None
        parts = self._parts(len(batch.images))
        for rows in np.array_split(np.arange(len(batch.images)), parts):
            part = slice(int(rows[0]), int(rows[-1]) + 1)
            loss = self._part(batch, part)
            if parts > 1:
                loss = loss * (len(rows) / len(batch.images))
            self.arithmetic.backward(loss)
            total = loss.detach() if total is None else total + loss.detach()
        assert total is not None
        return total

    def _parts(self, images: int) -> int:
        """In how many parts a batch of so many images is done: none is smaller than batch norm can take."""
        return min(self.parts, max(1, images // self._least))

    def _part(self, batch: Batch, rows: slice) -> "Tensor":
        import torch

        inputs = self.student.inputs(batch.images[rows])
        outputs = self.arithmetic.outputs(inputs)
        assert batch.targets is not None
        return self.loss(outputs, torch.as_tensor(batch.targets[rows], device=inputs.device))

    def _halve(self, batch: Batch) -> None:
        """Twice as many parts for all batches from now on."""
        import torch

        images = len(batch.images)
        size = math.ceil(images / self._parts(images))
        if not self.divisible or size // 2 < self._least:
            reason = "" if self.divisible else ", which this loss compares with each other"
            raise OutOfMemoryError(
                f"out of memory in step {batch.step + 1}, with {size} images at once{reason}: {self._reason}",
                hint="free some memory, or use a smaller --image-size, --batch-size or student",
            )
        self.student.module.zero_grad(set_to_none=True)
        gc.collect()
        if self.arithmetic.device == "cuda":
            torch.cuda.empty_cache()
        self.parts = math.ceil(images / (size // 2))


def _copy(source: "list[Tensor]", target: "list[Tensor]") -> None:
    import torch

    with torch.no_grad():
        if source:
            torch._foreach_copy_(target, source)


def _has_batch_norm(student: Student) -> bool:
    """Its statistics take two images."""
    from torch.nn.modules.batchnorm import _BatchNorm

    return any(isinstance(layer, _BatchNorm) for layer in student.module.modules())
