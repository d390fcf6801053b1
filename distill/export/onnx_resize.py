"""Resize and crop as nodes of an ONNX graph, before a graph that normalises inside."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from transferset.errors import UsageError
from transferset.models.preprocessing import Preprocessing

if TYPE_CHECKING:
    import onnx

OPSET = 18
"""The first whose Resize is antialiased."""
PIXELS = "resize_pixels"
WHOLE_LAYOUT = "uint8 (1, h, w, 3) RGB, one image of any size; resized, cropped and normalised inside"
_MODES = {"bilinear": "linear", "bicubic": "cubic"}

# As `Preprocessing.render` does it. Resize takes uint8 here, and so rounds after each direction as Pillow and
# torch do; exclude_outside and the coefficient are theirs too. Round takes halves to the even number, as
# Python does.
_GRAPH = """
<ir_version: 8, opset_import: ["": 18]>
resize (uint8[1, h, w, 3] images) => (uint8[1, side, side, 3] resize_pixels) {{
  resize_shape = Shape<start=1, end=3>(images)
  resize_wanted = Constant<value_ints=[{short}, {short}]>()
  {scale}
  resize_planes = Transpose<perm=[0, 3, 1, 2]>(images)
  resize_outer = Constant<value_ints=[1, 3]>()
  resize_sizes = Concat<axis=0>(resize_outer, resize_scaled)
  resize_whole = Resize<mode="{mode}", antialias=1, coordinate_transformation_mode="half_pixel",
    cubic_coeff_a=-0.5, exclude_outside=1>(resize_planes, , , resize_sizes)
  resize_size = Constant<value_ints=[{size}, {size}]>()
  resize_rest = Sub(resize_scaled, resize_size)
  resize_rest_float = Cast<to=1>(resize_rest)
  resize_two = Constant<value_float=2.0>()
  resize_middle = Div(resize_rest_float, resize_two)
  resize_rounded = Round(resize_middle)
  resize_start = Cast<to=7>(resize_rounded)
  resize_stop = Add(resize_start, resize_size)
  resize_axes = Constant<value_ints=[2, 3]>()
  resize_crop = Slice(resize_whole, resize_start, resize_stop, resize_axes)
  resize_pixels = Transpose<perm=[0, 2, 3, 1]>(resize_crop)
}}
"""
_SHORTEST = """resize_least = ReduceMin<keepdims=1>(resize_shape)
  resize_product = Mul(resize_shape, resize_wanted)
  resize_scaled = Div(resize_product, resize_least)"""
_SQUASH = "resize_scaled = Identity(resize_wanted)"


def check_resizable(preprocessing: Preprocessing) -> None:
    """UsageError for an interpolation that ONNX cannot do antialiased."""
    if preprocessing.interpolation not in _MODES:
        raise UsageError(
            f"--preprocessing resize: this student's images are resized by {preprocessing.interpolation},"
            f" and ONNX can do {' and '.join(_MODES)} only",
            hint="resize and crop outside, as preprocessing.json says: --preprocessing normalise",
        )


def rendered_by_pillow(preprocessing: Preprocessing, rgb: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 as `Preprocessing.render` gives it, every pixel of it by Pillow."""
    from PIL import Image

    height, width = preprocessing.scaled_shape(*rgb.shape[:2])
    method = Image.Resampling[preprocessing.interpolation.upper()]
    whole = np.asarray(Image.fromarray(rgb).resize((width, height), method))
    size = preprocessing.size
    top, left = round((height - size) / 2), round((width - size) / 2)
    return whole[top : top + size, left : left + size]


def resizing(preprocessing: Preprocessing) -> "onnx.ModelProto":
    """The graph from `images`, one of any size, to what `preprocessing` renders of it."""
    from onnx import parser

    text = _GRAPH.format(
        short=preprocessing.resize_short_side,
        size=preprocessing.size,
        mode=_MODES[preprocessing.interpolation],
        scale=_SHORTEST if preprocessing.resize == "shortest" else _SQUASH,
    )
    return parser.parse_model(text)


def put_before(path: Path, preprocessing: Preprocessing) -> None:
    """Make the graph in `path`, which takes rendered uint8 images and has OPSET, resize and crop them too."""
    import onnx

    front, whole = resizing(preprocessing), onnx.load(path)
    graph = whole.graph
    (given,) = graph.input
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == given.name:
                node.input[place] = PIXELS
    nodes = [*front.graph.node, *graph.node]
    del graph.node[:], graph.value_info[:]  # shapes of any number of images
    graph.node.extend(nodes)
    given.CopyFrom(front.graph.input[0])
    graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    for entry in whole.metadata_props:
        if entry.key == "input":
            entry.value = json.dumps(WHOLE_LAYOUT)
    onnx.save(whole, path)
