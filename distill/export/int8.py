"""Eight-bit graphs: static quantisation by ONNX Runtime, calibrated on images."""

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from distill.export.onnx_graph import INPUT, OUTPUT, normalised
from transferset.models.preprocessing import Preprocessing

_STRIDE = 8


def quantise(
    source: Path, target: Path, images: np.ndarray, preprocessing: Preprocessing, takes_uint8: bool
) -> int:
    """Quantise the graph `source`: weights to int8 for each channel, activations to uint8, all but the
    classifier, whose logits would be cut at the calibrated range; returns how many images were used.

    `images` (n, size, size, 3) uint8, at least one, give the ranges of the activations, cut at the 99.999th
    percentile: on a MobileNetV3 that kept 86 % of the answers where the full range kept 77 %. Weights in
    uint8 or activations in int8 were slower or less exact there.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = target.with_suffix(".prepared")
    stride = min(_STRIDE, len(images))
    used = images[: len(images) // stride * stride]
    try:
        with _quiet():
            quant_pre_process(str(source), str(prepared))
            quantize_static(
                str(prepared),
                str(target),
                _reader(used if takes_uint8 else normalised(used, preprocessing)),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.Percentile,
                nodes_to_exclude=_classifier(prepared),
                extra_options={"CalibStridedMinMax": stride},  # bounds the activations held in memory
            )
    finally:
        prepared.unlink(missing_ok=True)
    return len(used)


def _classifier(path: Path) -> list[str]:
    """The names of the nodes that give the logits."""
    import onnx

    nodes = {name: node for node in onnx.load(path).graph.node for name in node.output}
    last = nodes[OUTPUT]
    names = [last.name]
    if last.op_type == "Add":  # a product, then its bias
        names += [nodes[name].name for name in last.input if name in nodes]
    return names


def _reader(inputs: np.ndarray) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest: Iterator[int] = iter(range(len(inputs)))

        def __len__(self) -> int:
            return len(inputs)

        def set_range(self, start_index: int, end_index: int) -> None:
            self.rest = iter(range(start_index, end_index))

        def get_next(self) -> dict[str, np.ndarray] | None:
            place = next(self.rest, None)
            return None if place is None else {INPUT: inputs[place : place + 1]}

    return Reader()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser prints to stdout and logs advice."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
