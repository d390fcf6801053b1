"""Item ids of samples that came without: of tars without a table, and of image files."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from distill.data.samples import Samples
from transferset.console import progress
from transferset.copies import item_id
from transferset.errors import DataError
from transferset.parallel import ordered_map

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
    places: dict[tuple[Path, int], list[int]] = {}
    for index in unknown.tolist():
        where = samples.sources[samples.source[index]]
        places.setdefault((where, int(samples.offset[index])), []).append(index)
    groups = list(places.values())
    ids = samples.ids.copy()
    for group, identity in zip(groups, _read(samples, groups, workers), strict=True):
        ids[group] = np.frombuffer(identity, np.uint8)
    return replace(samples, ids=ids)


def _read(samples: Samples, groups: list[list[int]], workers: int) -> Iterator[bytes]:
    def one(group: list[int]) -> bytes:
        try:
            return item_id(samples.read(group[0]))
        except DataError:
            return bytes(samples.ids.shape[1])

    found = ordered_map(one, groups, workers=max(1, workers), window=_AT_ONCE)
    if len(groups) < _WORTH_A_WORD:
        yield from found
        return
    with progress("read", len(groups), "images") as bar:
        for identity in found:
            yield identity
            bar.advance()
