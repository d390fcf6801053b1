"""What the index has stored about some of its rows: seeded shuffle keys."""

from typing import TYPE_CHECKING

import numpy as np

from curate.index.numbering import Numbering
from curate.selection.shuffle import shuffle_keys
from transferset.grouping import groups_of

if TYPE_CHECKING:
    from curate.index.index import Index


def stored_keys(index: "Index", numbering: Numbering, rows: np.ndarray, seed: int) -> np.ndarray:
    """The shuffle keys of the item ids of rows (n,): (n,) uint64."""
    keys = np.empty(len(rows), np.uint64)
    places, local = numbering.split(rows)
    for own in groups_of(places):
        ids = index.item_ids(int(numbering.numbers[places[own[0]]]))
        keys[own] = shuffle_keys(ids[local[own]], seed)
    return keys
