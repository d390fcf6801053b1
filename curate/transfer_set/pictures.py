"""Thumbnails for the report, within a budget of bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from curate.selection.queries import Query
from transferset.cores import available_cores
from transferset.parallel import ordered_map
from transferset.report import figure, text, thumbnail_of

if TYPE_CHECKING:
    from curate.index.index import Index

MOST_BYTES = 9_000_000
_SIDE = 96


@dataclass(frozen=True)
class Picture:
    """Something to show, a query, a file or the pool item at a position, with a caption (already HTML) and
    the kind of frame."""

    source: Query | Path | int
    caption: str
    kind: Literal["", "query", "odd"] = ""


class Pictures:
    """Makes figures until the page is full; after that, and for what can't be read, only captions. Images
    that the index has no bytes of are shown by their URL, or else their key."""

    def __init__(self, index: "Index") -> None:
        self._index = index
        self._left = MOST_BYTES

    def row(self, pictures: Sequence[Picture]) -> str:
        """HTML of the pictures, in order, as one row of the page."""
        return f'<div class="row">{self.figures(pictures)}</div>'

    def figures(self, pictures: Sequence[Picture]) -> str:
        """HTML of the pictures, in order."""
        threads = available_cores()
        uris = ordered_map(self._uri, pictures, threads, 4 * threads)
        return "".join(self._figure(uri, one) for uri, one in zip(uris, pictures, strict=True))

    def _figure(self, uri: str, picture: Picture) -> str:
        self._left -= len(uri)
        if isinstance(picture.source, int) and not self._index.has_bytes:
            item = self._index.item(picture.source)
            caption = f"{text(item.url or item.key)}<br>{picture.caption}"
            return f"<figure><figcaption>{caption}</figcaption></figure>"
        return figure(uri if self._left >= 0 else "", picture.caption, picture.kind)

    def _uri(self, picture: Picture) -> str:
        return thumbnail_of(partial(self._bytes, picture.source), _SIDE) if self._left >= 0 else ""

    def _bytes(self, source: Query | Path | int) -> bytes:
        if isinstance(source, Query):
            return source.read()
        return (
            source.read_bytes()
            if isinstance(source, Path)
            else self._index.read_bytes(self._index.item(source))
        )
