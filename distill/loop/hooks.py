"""What a stage gives the training loop."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.data.batches import Batch
from distill.loop.ledger import Ledger

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Hooks:
    """What the loop is given and calls.

    `stream(step)` yields the batches from that step on; `method(outputs, targets)` is the loss, `divisible`
    if it is the mean of the losses of a batch's images; `log` gets one dict a line; `score(module)` is what
    evaluations maximise (None: there are none); `flush` runs before every checkpoint; `rewind` is told the
    step that the run starts from; `collect` adds what other stages have cost since its last call; `replay` is
    where steps that are not finite are kept (None: nowhere).
    """

    stream: Callable[[int], Generator[Batch]]
    method: Callable[["Tensor", "Tensor"], "Tensor"]
    log: Callable[[dict[str, Any]], None]
    score: Callable[["nn.Module"], float] | None = None
    flush: Callable[[], None] = lambda: None
    rewind: Callable[[int], None] = lambda step: None
    collect: Callable[[Ledger], None] = lambda ledger: None
    title: str = "train"
    divisible: bool = True
    replay: Path | None = None
