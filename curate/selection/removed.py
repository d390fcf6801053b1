"""What was kept out of a selection, and why."""

from dataclasses import dataclass
from typing import Final, Literal

Why = Literal["query", "exact bytes", "same pixels", "near copy", "near duplicate"]
QUERY: Final = "query"
EXACT_BYTES: Final = "exact bytes"
SAME_PIXELS: Final = "same pixels"
NEAR_COPY: Final = "near copy"
NEAR_DUPLICATE: Final = "near duplicate"
LEAKS: tuple[Why, ...] = (EXACT_BYTES, SAME_PIXELS, NEAR_COPY)
REASONS: tuple[Why, ...] = (QUERY, *LEAKS, NEAR_DUPLICATE)


@dataclass(frozen=True)
class Removed:
    """An item of the index that was kept out.

    `why` is "query" (it is one), "exact bytes", "same pixels" or "near copy" (of an excluded image), or "near
    duplicate" (of an item that is taken). `match` is the id of the query or of the taken item in hex, or the
    excluded image's name. Of the near ones `similarity` is the cosine that made it a suspect and `agreement`
    how far the pixels agree (see `transferset.alignment`; None: they could not be read, and the cosine alone
    had to do).
    """

    position: int
    why: Why
    match: str
    similarity: float | None = None
    agreement: float | None = None
