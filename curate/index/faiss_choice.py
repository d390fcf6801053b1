"""Which FAISS index fits: a pure function of rows, dimension, memory and wanted recall."""

import os
from dataclasses import dataclass

from transferset.errors import UsageError

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


@dataclass(frozen=True)
class FaissChoice:
    """A FAISS factory string, its inverted lists (0: flat), about how many bytes it takes, and why it is
    chosen."""

    factory: str
    lists: int
    bytes: int
    reason: str


def choose_faiss(rows: int, dimension: int, wish: FaissWish) -> FaissChoice:
    """Flat float16 where a scan of everything is quick; else the finest codes in inverted lists that fit.

    There are about four times the square root of `rows` lists, a power of two. Codes: 8 bits a value (SQ8),
    or product quantisation with 4 bits for each 2 or 4 values (PQ fast-scan). All candidates are scored again
    from the stored rows, so that codes only have to find them.
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
    codes = {f"IVF{lists},SQ8": dimension}
    for values in (2, 4):
        pieces = _largest_divisor(dimension, dimension // values)
        codes[f"IVF{lists},PQ{pieces}x4fs"] = -(-pieces // 2)
    sizes = {name: rows * (code + _ID_BYTES) + centres for name, code in codes.items()}
    why = f"{rows:,} rows are more than {FLAT_ROWS:,}" if rows > FLAT_ROWS else "flat float16 does not fit"
    passed: list[str] = []
    for name, size in sizes.items():
        if size <= wish.bytes:
            finer = f"; {', '.join(passed)} would take more" if passed else ""
            fits = f"takes {size / 1e9:.3g} of {wish.bytes / 1e9:.3g} GB"
            return FaissChoice(name, lists, size, f"{why}; {name} {fits}{finer}")
        passed.append(name)
    name, size = min(sizes.items(), key=lambda one: one[1])
    reason = f"{why}; nothing fits {wish.bytes / 1e9:.3g} GB, the smallest takes {size / 1e9:.3g} GB"
    return FaissChoice(name, lists, size, reason)


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
