"""Indexes of pools as these tests build them, and what is in them."""

from pathlib import Path

import numpy as np

from curate.index.index import open_index
from curate.index.options import BuildOptions
from curate.index.part import ItemRow

OPTIONS = BuildOptions(
    encoder="timm:test_efficientnet@none",
    image_size=32,
    runtime="eager",
    batch_size=4,
    workers=2,
    threads=1,
    faiss=False,
)


def items_of(index: Path) -> list[ItemRow]:
    """All items of an index, in their order."""
    opened = open_index(index)
    return [item for part in opened.parts for item in part.read(np.arange(part.rows))]
