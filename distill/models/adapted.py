"""A foundation model with its head as one module, so that the training loop takes it for a student."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from distill.models.heads import LinearHead
from distill.models.layers import layer_numbers
from transferset.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


class Adapted(nn.Module):
    """Normalised images (n, 3, size, size) to logits (n, C): `backbone`, then a linear layer on its features
    at length √d, so that the layer's inputs have mean square 1 whatever the model.

    The backbone is always in evaluation mode: batch norms keep the statistics of pretraining, which a few
    labelled images would spoil, and the first step starts from exactly what the frozen model says.
    """

    def __init__(self, backbone: nn.Module, classes: int, dimension: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(dimension, classes)
        self.scale = float(np.sqrt(dimension))

    def forward(self, images: "Tensor") -> "Tensor":
        features = F.normalize(self.backbone(images).float(), dim=1)
        logits: Tensor = self.head(features * self.scale)
        return logits

    def train(self, mode: bool = True) -> "Adapted":
        super().train(mode)
        self.backbone.eval()
        return self

    def get_classifier(self) -> nn.Module:
        """The head, as models of timm call it."""
        return self.head

    def group_matcher(self, coarse: bool = False) -> Callable[[str], tuple[int, ...]]:
        """Layers as timm wants them named for layer-wise learning rates; the head comes last."""
        inner = layer_numbers(self.backbone, coarse=coarse)
        after = max(inner.values(), default=0) + 1

        def layer(name: str) -> tuple[int, ...]:
            return (inner.get(name.removeprefix("backbone."), after),)

        return layer

    def set_head(self, head: LinearHead | None) -> None:
        """Give the calibrated logits of `head`; None: every class the same."""
        with torch.no_grad():
            if head is None:
                self.head.weight.zero_()
                self.head.bias.zero_()
                return
            self.head.weight.copy_(torch.from_numpy(head.weight / np.float32(head.temperature * self.scale)))
            self.head.bias.copy_(torch.from_numpy(head.bias / np.float32(head.temperature)))

    def linear_head(self, temperature: float) -> LinearHead:
        """The head as a teacher has it, its logits to be divided by `temperature`."""
        weight = self.head.weight.detach().cpu().numpy() * np.float32(self.scale)
        return LinearHead(weight, self.head.bias.detach().cpu().numpy().copy(), temperature)

    def tune_last(self, blocks: int) -> None:
        """Only the last `blocks` blocks (stages of a convnet) and the head learn; UsageError where the model
        has not more of them than that."""
        layers = layer_numbers(self.backbone, coarse=True)
        count = max(layers.values(), default=0) + 1
        if not 1 <= blocks < count:
            raise UsageError(
                f"--blocks {blocks}: the model has {count} parts that can be tuned one by one",
                hint=f"give 1 to {count - 1}, or tune all of it with --tune lp-ft",
            )
        for name, parameter in self.backbone.named_parameters():
            parameter.requires_grad_(layers[name] >= count - blocks)
