"""What a transfer set is made of: samples with their provenance, in the order in which they are written."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.foreign_json import stored_object
from curate.selection.queries import Query
from curate.selection.selection import Pick, Selection
from curate.selection.shuffle import shuffle_keys
from transferset.images import EXTENSIONS, read_header

if TYPE_CHECKING:
    from curate.index.index import Index
    from curate.index.part import ItemRow

_LICENCE_KEYS = ("licence", "license", "license_url", "rights")
_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a transfer set: `size` is that of its bytes, `origin` where they are read from.

    `provenance` is what stands beside it in the shard and in samples.parquet: no time, host or absolute path.
    """

    item_id: str
    extension: str
    size: int
    origin: "ItemRow | Query"
    provenance: dict[str, Any]

    def json(self) -> bytes:
        """The provenance as one line of JSON, keys sorted."""
        return _ENCODER.encode(self.provenance).encode("utf-8", "backslashreplace")


def build_samples(
    index: "Index", queries: Sequence[Query], selection: Selection, *, include_queries: bool, seed: int
) -> list[Sample]:
    """The samples of a selection, shuffled: by a keyed hash of the item id, so that a reader that streams
    the shards in order sees the classes mixed from the first sample on, and one image more or less moves
    no other.

    With `include_queries` the queries are samples too, with rank 0 and similarity 1.
    """
    items = index.items(np.array([pick.position for pick in selection.picks], dtype=np.int64))
    samples = [_retrieved(item, pick, queries) for item, pick in zip(items, selection.picks, strict=True)]
    if include_queries:
        samples += [_query(query) for query in queries]
    if not samples:
        return []
    ids = np.frombuffer(bytes.fromhex("".join(sample.item_id for sample in samples)), dtype=np.uint8)
    order = np.argsort(shuffle_keys(ids.reshape(-1, 16), seed), kind="stable")
    return [samples[place] for place in order.tolist()]


def _retrieved(item: "ItemRow", pick: Pick, queries: Sequence[Query]) -> Sample:
    owner = None if pick.query is None else queries[pick.query]
    wanted = () if owner is None else (owner, *(queries[other] for other in pick.also))
    identity = item.item_id.hex()
    provenance = {
        "item_id": identity,
        "key": item.key,
        "source": item.source if item.source is not None else item.path,
        "url": item.url,
        "licence": _licence(item.extra),
        "caption": item.caption,
        "width": item.width or None,
        "height": item.height or None,
        "query_ids": [query.query_id for query in wanted],
        "hinted_label": owner.label if owner is not None else None,
        "rank": pick.rank,
        "similarity": None if pick.similarity is None else round(pick.similarity, 4),
    }
    extension = (
        EXTENSIONS[item.format] if item.format else ""
    )  # of a pool without bytes it shows when fetched
    return Sample(identity, extension, item.size, item, provenance)


def _query(query: Query) -> Sample:
    data = query.read()
    header = read_header(data)
    provenance = {
        "item_id": query.query_id,
        "key": query.name,
        "source": "queries",
        "url": None,
        "licence": None,
        "caption": None,
        "width": header.width,
        "height": header.height,
        "query_ids": [query.query_id],
        "hinted_label": query.label,
        "rank": 0,
        "similarity": 1.0,
    }
    return Sample(query.query_id, EXTENSIONS[header.format], len(data), query, provenance)


def _licence(extra: str | None) -> str | None:
    """The licence that the pool's metadata names, if any."""
    if extra is None or not any(key in extra.lower() for key in _LICENCE_KEYS):
        return None
    metadata = {str(key).lower(): value for key, value in (stored_object(extra) or {}).items()}
    found = (metadata.get(key) for key in _LICENCE_KEYS)
    return next((value for value in found if isinstance(value, str) and value), None)
