"""A seeded sample of a pool's images, for probes: from a few tars and from the loose files, as they come."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from curate.pools.items import PlannedPart, PoolItem, Source
from curate.pools.reader import PartReader
from curate.pools.roots import Roots
from curate.pools.tar_images import count_images, is_guessed
from transferset.errors import DataError

_IMAGES_A_TAR = 64
_COUNTED_TARS = 200


@dataclass(frozen=True)
class PoolSize:
    """How many images there are, and whether that is counted or estimated from the sizes of some tars."""

    images: int
    counted: bool


@dataclass(frozen=True)
class Sampled:
    """An image of a sample and the reader of its bytes."""

    item: PoolItem
    reader: PartReader

    def read(self) -> bytes:
        """The encoded bytes."""
        return self.reader.read(self.item)


@contextlib.contextmanager
def sample_images(
    sources: Sequence[Source], roots: Roots, images: int, seed: int = 0
) -> Iterator[list[Sampled]]:
    """Up to `images` images of `sources`: tars and loose files in a seeded order, of each tar a run of up to
    64 images from a seeded place on, as a build would read them; nothing that can't be opened.

    Raises DataError where there is none.
    """
    rng = np.random.default_rng(seed)
    found: list[Sampled] = []
    with contextlib.ExitStack() as readers:
        for place in rng.permutation(len(sources)).tolist():
            if len(found) >= images:
                break
            reader = PartReader(PlannedPart((sources[place],), 0), roots)
            readers.enter_context(reader)
            with contextlib.suppress(DataError):
                items = list(reader.items())
                first = int(rng.integers(max(1, len(items) - _IMAGES_A_TAR)))
                some = itertools.islice(items, first, first + _IMAGES_A_TAR)
                found += [Sampled(item, reader) for item in some][: images - len(found)]
        if not found:
            raise DataError("the pool holds no image that can be opened", hint="check its tars and files")
        yield found


def pool_size(sources: Sequence[Source], roots: Roots, seed: int = 0) -> PoolSize:
    """Images in `sources`. Of many tars only some, drawn by the seed, are looked into; the others count by
    their bytes."""
    tars = [source for source in sources if source.holds_many]
    loose = len(sources) - len(tars)
    if len(tars) <= _COUNTED_TARS:
        return PoolSize(loose + sum(_count(tar, roots) for tar in tars), not _are_guessed(tars, roots))
    drawn = np.random.default_rng(seed).choice(len(tars), _COUNTED_TARS, replace=False).tolist()
    images = sum(_count(tars[place], roots) for place in drawn)
    share = sum(tars[place].size for place in drawn) / max(1, sum(tar.size for tar in tars))
    return PoolSize(loose + round(images / max(share, 1e-9)), False)


def _count(source: Source, roots: Roots) -> int:
    return count_images(roots.locate(source), source.size)


def _are_guessed(sources: Sequence[Source], roots: Roots) -> bool:
    return is_guessed([PlannedPart(tuple(sources), 0)], roots)
