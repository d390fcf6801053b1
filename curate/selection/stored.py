"""What the index has stored about some of its rows: vectors and seeded shuffle keys."""

from typing import TYPE_CHECKING

import numpy as np

from curate.index.numbering import Numbering
from curate.selection.shuffle import shuffle_keys
from transferset.grouping import groups_of

if TYPE_CHECKING:
    from curate.index.index import Index


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (…, d) at length 1, float32; a zero one stays."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)


def stored_vectors(index: "Index", numbering: Numbering, rows: np.ndarray) -> np.ndarray:
    """The vectors of rows (n,), see `Numbering`: (n, d) float32 at length 1."""
    vectors = np.empty((len(rows), index.dimension), np.float32)
    places, local = numbering.split(rows)
    for own in groups_of(places):
        vectors[own] = index.embeddings(int(numbering.numbers[places[own[0]]]))[local[own]]
    return unit(vectors)


def stored_keys(index: "Index", numbering: Numbering, rows: np.ndarray, seed: int) -> np.ndarray:
    """The shuffle keys of the item ids of rows (n,): (n,) uint64."""
    keys = np.empty(len(rows), np.uint64)
    places, local = numbering.split(rows)
    for own in groups_of(places):
        ids = index.item_ids(int(numbering.numbers[places[own[0]]]))
        keys[own] = shuffle_keys(ids[local[own]], seed)
    return keys
