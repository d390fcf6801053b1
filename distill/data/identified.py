"""Item ids of samples that came without: of tars without a table, and of image files."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from distill.data.samples import Samples
from transferset.copies import item_id
from transferset.errors import DataError
from transferset.grouping import begins
from transferset.parallel import ordered_map
from transferset.progress import progress

_AT_ONCE = 64
_WORTH_A_WORD = 2_000


def identified(samples: Samples, workers: int = 1) -> Samples:
    """The same samples with the item id of every one; zeros where the bytes cannot be read at all.

    Those whose id is not known are read once, from disk, each place of the disk once however often it is in
    the list. Ids that are known are left: the reader proves them whenever it decodes an image.
    """
    unknown = np.flatnonzero(~samples.ids.any(axis=1))
    if not len(unknown):
        return samples
    first = _first_there(samples, unknown)
    once = unknown[first == unknown]
    ids = samples.ids.copy()
    for index, identity in zip(once, _read(samples, once, workers), strict=True):
        ids[index] = np.frombuffer(identity, np.uint8)
    ids[unknown] = ids[first]
    return replace(samples, ids=ids)


def _first_there(samples: Samples, rows: np.ndarray) -> np.ndarray:
    """For each of the `rows`, which ascend: the first of them that is at the same place of the disk."""
    numbers: dict[Path, int] = {}
    files = np.array([numbers.setdefault(path, len(numbers)) for path in samples.sources], dtype=np.int64)
    file, offset = files[samples.source[rows]], samples.offset[rows]
    order = np.lexsort((offset, file))
    starts = begins(order, file, offset)
    first = np.empty_like(rows)
    first[order] = rows[order[starts]][np.cumsum(starts) - 1]
    return first


def _read(samples: Samples, rows: np.ndarray, workers: int) -> Iterator[bytes]:
    def one(row: int) -> bytes:
        try:
            return item_id(samples.read(row))
        except DataError:
            return bytes(samples.ids.shape[1])

    found = ordered_map(one, map(int, rows), workers=max(1, workers), window=_AT_ONCE)
    if len(rows) < _WORTH_A_WORD:
        yield from found
        return
    with progress("read", len(rows), "images") as bar:
        for identity in found:
            yield identity
            bar.advance()
