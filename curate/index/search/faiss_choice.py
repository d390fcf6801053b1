"""Which FAISS index fits: by rows, dimension, memory and wanted recall."""

import contextlib
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.index.layout import MANIFEST
from transferset.errors import DataError, UsageError
from transferset.writes import read_json

FLAT_ROWS = 200_000
DEFAULT_RECALL = 0.95
_MOST_LISTS = 1 << 18
_ID_BYTES = 8


@dataclass(frozen=True)
class FaissWish:
    """What the user asks of the FAISS file: memory in GB (None: half of the machine's) and recall@100."""

    memory_gb: float | None = None
    recall: float = DEFAULT_RECALL

    def __post_init__(self) -> None:
        if self.memory_gb is not None and not self.memory_gb > 0:
            raise UsageError(f"--memory-gb must be more than 0, got {self.memory_gb}")
        if not 0 < self.recall <= 1:
            raise UsageError(f"--recall is a share, from 0 to 1, got {self.recall}")

    @property
    def bytes(self) -> float:
        """The memory that may be used."""
        if self.memory_gb is not None:
            return self.memory_gb * 1e9
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2


def wish_of(index: Path, memory_gb: float | None, recall: float | None) -> FaissWish:
    """What is asked for; what isn't (None), as the FAISS file of the index was made."""
    about: dict[str, Any] = {}
    with contextlib.suppress(DataError, AttributeError):
        about = read_json(index / MANIFEST).get("faiss") or {}
    return FaissWish(
        about.get("memory_gb") if memory_gb is None else memory_gb,
        about.get("wanted_recall", DEFAULT_RECALL) if recall is None else recall,
    )


@dataclass(frozen=True)
class FaissChoice:
    """A FAISS factory string, its inverted lists (0: flat), about how many bytes it takes, and why it is
    chosen."""

    factory: str
    lists: int
    bytes: int
    reason: str


def choose_faiss(rows: int, dimension: int, wish: FaissWish, too_coarse: Collection[str] = ()) -> FaissChoice:
    """Flat float16 where a scan of everything is quick; else the quickest codes in inverted lists that fit
    and are not among the factories that turned out to be `too_coarse` for the wanted recall.

    There are about four times the square root of `rows` lists, a power of two. Codes: product quantisation
    with 4 bits for each 2 values (PQ fast-scan: F. Andre et al., "Quicker ADC", 2019), 8 bits a value (SQ8,
    several times slower, and finer), or 4 bits for each 4 values where these don't fit. All candidates are
    scored again from the stored rows, so that codes only have to find them.
    """
    flat = rows * (2 * dimension + _ID_BYTES)
    if wish.recall >= 1:
        return FaissChoice("IDMap2,SQfp16", 0, flat, "only a flat index finds everything (--recall 1)")
    if rows <= FLAT_ROWS and flat <= wish.bytes:
        return FaissChoice(
            "IDMap2,SQfp16", 0, flat, f"{rows:,} rows are at most {FLAT_ROWS:,}: flat is quick"
        )
    lists = _lists(rows)
    centres = lists * dimension * 4
    sizes = {
        name: rows * (code + _ID_BYTES) + centres
        for name, code in _codes(lists, dimension).items()
        if name not in too_coarse
    }
    why = f"{rows:,} rows are more than {FLAT_ROWS:,}" if rows > FLAT_ROWS else "flat float16 does not fit"
    why += "".join(f"; {name} found too few" for name in too_coarse)
    passed: list[str] = []
    for name, size in sizes.items():
        if size <= wish.bytes:
            larger = f"; {', '.join(passed)} would take more" if passed else ""
            fits = f"takes {size / 1e9:.3g} of {wish.bytes / 1e9:.3g} GB"
            return FaissChoice(name, lists, size, f"{why}; {name} {fits}{larger}")
        passed.append(name)
    name, size = min(sizes.items(), key=lambda one: one[1])
    reason = f"{why}; nothing fits {wish.bytes / 1e9:.3g} GB, the smallest takes {size / 1e9:.3g} GB"
    return FaissChoice(name, lists, size, reason)


def finer(rows: int, dimension: int, wish: FaissWish, too_coarse: Collection[str]) -> bool:
    """Whether there is something finer than all of these that fits."""
    lists = _lists(rows)
    sq8 = f"IVF{lists},SQ8"
    return sq8 not in too_coarse and choose_faiss(rows, dimension, wish, too_coarse).factory == sq8


def _codes(lists: int, dimension: int) -> dict[str, int]:
    """Bytes a row by factory, quickest first, except that what is coarser than both comes last."""
    twos, fours = (_largest_divisor(dimension, dimension // values) for values in (2, 4))
    return {
        f"IVF{lists},PQ{twos}x4fs": -(-twos // 2),
        f"IVF{lists},SQ8": dimension,
        f"IVF{lists},PQ{fours}x4fs": -(-fours // 2),
    }


def _lists(rows: int) -> int:
    """The power of two nearest to 4 √rows, but at least 40 rows a list."""
    power = round(4 * max(1, rows) ** 0.5).bit_length() - 1
    lists = 1 << power
    if 4 * rows**0.5 > lists * 2**0.5:
        lists *= 2
    while lists > 1 and rows < 40 * lists:
        lists //= 2
    return min(lists, _MOST_LISTS)


def _largest_divisor(dimension: int, most: int) -> int:
    """The largest divisor of `dimension` that is at most `most`, at least 1."""
    return next((one for one in range(max(1, most), 0, -1) if dimension % one == 0), 1)
