"""forget: items that nothing may give out any more, named by id, by an image, by URL or by similarity."""

import datetime
import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from curate.index.index import Index, open_index
from curate.index.ledger import LedgerEntry, add_to_ledger
from curate.index.part import Part
from transferset.copies import item_id
from transferset.errors import DataError, UsageError
from transferset.reads import read_bytes

_ITEM_ID = re.compile(r"[0-9a-fA-F]{32}")
_FIRST_SEARCH = 128


@dataclass(frozen=True)
class ForgetOptions:
    """What is to be forgotten, by whom and why.

    Attributes:
        item_ids: 32 hex digits each.
        images: files; items with the same bytes.
        urls: shell patterns (`https://example.org/*`, * matches / too); items of the index with such a URL.
        similar_to: files; items whose cosine to one of them is `min_similarity` or more.
        who, why: for the ledger.
        dry_run: only find.
        device: of the encoder, which `similar_to` needs.
    """

    item_ids: Sequence[str] = ()
    images: Sequence[Path] = ()
    urls: Sequence[str] = ()
    similar_to: Sequence[Path] = ()
    min_similarity: float | None = None
    who: str = ""
    why: str = ""
    dry_run: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        if not (self.item_ids or self.images or self.urls or self.similar_to):
            raise UsageError(
                "nothing to forget was given", hint="--item-id, --ids, --image, --url or --similar-to"
            )
        if bool(self.similar_to) != (self.min_similarity is not None):
            raise UsageError(
                "--similar-to and --min-similarity go together",
                hint="curate forget --similar-to FILE --min-similarity 0.95 first lists what it would forget",
            )
        if self.min_similarity is not None and not -1 <= self.min_similarity <= 1:
            raise UsageError(f"--min-similarity is a cosine, from -1 to 1, got {self.min_similarity}")
        wrong = next((one for one in self.item_ids if not _ITEM_ID.fullmatch(one)), None)
        if wrong is not None:
            raise UsageError(f"{wrong[:80]!r} is not an item id", hint="an item id has 32 hex digits")


class Named(NamedTuple):
    """An item that the options name: `how`, in how many `places` of the index it is (0: not in it; it is
    refused if it comes), key and URL of the first of them, and the cosine if it was found by one."""

    item_id: str
    how: str
    places: int
    key: str | None
    url: str | None
    similarity: float | None


@dataclass(frozen=True)
class ForgetReport:
    """`items` are forgotten now (or would be), `already` others that were before; `total` stand in the
    ledger."""

    index: Path
    items: tuple[Named, ...]
    already: int
    total: int
    dry_run: bool

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "index": str(self.index),
            "items": [item._asdict() for item in self.items],
            "already": self.already,
            "total": self.total,
            "dry_run": self.dry_run,
        }


def forget(index: Path | Index, options: ForgetOptions) -> ForgetReport:
    """Enter items into the index's ledger. From then on no search, export or service gives them out, running
    services included, and `build_index` leaves out the same bytes when they come again.

    Their rows stay on disk until `compact`. The pool's own files are not touched.

    Raises:
        UsageError: nothing, or nonsense, was named.
        DataError: no index; an image that can't be read; a damaged ledger.
        BusyError: another process is forgetting at the moment.
    """
    opened = index if isinstance(index, Index) else open_index(index)
    found: dict[bytes, tuple[str, float | None]] = {}
    for identity, how, similarity in _named(opened, options):
        found.setdefault(identity, (how, similarity))
    known = opened.forgotten.ids
    fresh = {identity: about for identity, about in found.items() if identity not in known}
    items = tuple(_describe(opened, identity, *about) for identity, about in fresh.items())
    if not options.dry_run:
        now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        add_to_ledger(
            opened.path,
            (
                LedgerEntry(identity, options.who, now, options.why, how)
                for identity, (how, _) in fresh.items()
            ),
        )
    return ForgetReport(
        opened.path, items, len(found) - len(fresh), len(opened.forgotten.ids), options.dry_run
    )


def _describe(index: Index, identity: bytes, how: str, similarity: float | None) -> Named:
    positions = index.positions_of(identity)
    item = index.item(positions[0]) if positions else None
    key, url = (item.key, item.url) if item is not None else (None, None)
    return Named(identity.hex(), how, len(positions), key, url, similarity)


def _named(index: Index, options: ForgetOptions) -> Iterable[tuple[bytes, str, float | None]]:
    for text in options.item_ids:
        yield bytes.fromhex(text), "item id", None
    if options.images and not index.has_bytes:
        raise UsageError(
            f"{index.path} is of ready embeddings: it does not know its images by their bytes",
            hint="name them by --url, --item-id or --similar-to",
        )
    for path in options.images:
        yield item_id(read_bytes(path)), f"the bytes of {path.name}", None
    for pattern in options.urls:
        for identity in _with_url(index.parts, pattern):
            yield identity, f"url {pattern}", None
    if options.similar_to and options.min_similarity is not None:
        yield from _similar(index, options.similar_to, options.min_similarity, options.device)


def _with_url(parts: Sequence[Part], pattern: str) -> Iterable[bytes]:
    matches = re.compile(fnmatch.translate(pattern)).match
    for part in parts:
        table = part.table(["item_id", "url"])
        for identity, url in zip(*(column.to_pylist() for column in table.columns), strict=True):
            if url is not None and matches(url):
                yield identity


def _similar(
    index: Index, paths: Sequence[Path], least: float, device: str
) -> Iterable[tuple[bytes, str, float]]:
    """Items whose cosine to one of the images is `least` or more, the most similar ones first."""
    from curate.encoding.pipeline import Unreadable, encode_items
    from curate.index.encoder import IndexEncoder

    for outcome in encode_items(IndexEncoder(index, device).model, paths, read_bytes):
        if isinstance(outcome, Unreadable):
            raise DataError(f"{outcome.item} cannot be used: {outcome.reason}")
        positions, scores = _all_above(index, outcome.embedding, least)
        for item, score in zip(index.items(positions), scores.tolist(), strict=True):
            yield item.item_id, f"similar to {outcome.item.name} (cosine {score:.4f})", round(score, 5)


def _all_above(index: Index, vector: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Searches deeper until something less similar is found, or the index ends."""
    depth = _FIRST_SEARCH
    while True:
        positions, scores = (found[0] for found in index.search(vector[None], depth))
        above = (positions >= 0) & (scores >= least)
        if not above.all() or depth >= index.rows:
            return positions[above], scores[above]
        depth = min(index.rows, 4 * depth)
