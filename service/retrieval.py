"""From checked queries to an answer: the same library call as `curate retrieve --no-near`, told as JSON.

A client gets its answer at once: near-duplicates, which are confirmed on pixels, are left in.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from curate.foreign_json import stored_object
from curate.index.index import Engine, Index
from curate.index.part import ItemRow
from curate.index.search.engine import SERVICE_SECONDS, choose_engine
from curate.retrieval import retrieve_items
from curate.selection.candidates import OVERFETCH
from curate.selection.queries import Query
from curate.selection.removed import QUERY
from curate.selection.select_options import SelectOptions
from curate.selection.selection import Pick, Selection
from curate.selection.texts import no_text_tower, text_vectors
from service.encoder import SharedEncoder
from service.errors import ApiError
from service.schemas import ClassOutcome, Dropped, QueryOutcome, RetrievedItem, RetrieveResponse, Selecting
from service.served_index import ServedIndex
from service.settings import Settings
from transferset.errors import DataError

MOST_CLUSTERED = 1_000_000
"""Strategy cluster needs clusters of all rows, which the first such request has to wait for."""


@dataclass(frozen=True)
class Distinct:
    """The distinct queries in the library's order, (label, id), and for each its position in the request; for
    each position of the request its place among them."""

    queries: tuple[Query, ...]
    owners: tuple[int, ...]
    places: tuple[int, ...]


def distinct(queries: Sequence[Query]) -> Distinct:
    """The same content counts once, with the label that comes first in the alphabet, as in a query
    directory."""
    by_id: dict[str, int] = {}
    for number in sorted(range(len(queries)), key=lambda number: (queries[number].label or "", number)):
        by_id.setdefault(queries[number].query_id, number)
    owners = sorted(
        by_id.values(), key=lambda number: (queries[number].label or "", queries[number].query_id)
    )
    place = {queries[number].query_id: at for at, number in enumerate(owners)}
    return Distinct(
        tuple(queries[number] for number in owners),
        tuple(owners),
        tuple(place[query.query_id] for query in queries),
    )


@dataclass(frozen=True)
class Retrieval:
    """What the routes work with: the served index, its encoder, and the limits."""

    served: ServedIndex
    encoder: SharedEncoder
    settings: Settings

    @property
    def index(self) -> Index:
        """The index as it is on disk now. Take it once in a request: positions hold for this one only."""
        return self.served.now

    def answer(self, options: Selecting, queries: Sequence[Query], images_url: str) -> RetrieveResponse:
        """Retrieve for the queries of a request, in its order.

        Raises ApiError for an image that can't be decoded, the library's errors for what can't be retrieved.
        """
        asked, index = distinct(queries), self.index
        chosen = _select_options(index, options, asked.queries)
        encoded = self._encoded(asked.queries, options)
        texts = self._texts(asked.queries, chosen) if options.strategy == "text-image" else None
        selection = retrieve_items(index, None, encoded, chosen, texts=texts)
        items = index.items(np.array([pick.position for pick in selection.picks], dtype=np.int64))
        thumbnails = images_url if index.has_bytes else None
        results = [
            _result(pick, item, asked, thumbnails) for pick, item in zip(selection.picks, items, strict=True)
        ]
        return RetrieveResponse(
            results=results,
            queries=_outcomes(queries, asked, selection),
            classes=_classes(asked, selection),
            requested=selection.requested,
            returned=len(results),
            missing=selection.missing,
            dropped=Dropped(query=selection.removed_counts()[QUERY], filtered=selection.filtered),
            notes=_notes(queries, asked, selection),
        )

    def _texts(self, queries: Sequence[Query], options: SelectOptions) -> dict[str | None, np.ndarray]:
        """The vectors of the labels as names."""
        if not self.encoder.has_text:
            raise no_text_tower(self.encoder.spec)
        return text_vectors(self.encoder.encode_texts, [query.label for query in queries], options.tuning)

    def _encoded(self, queries: Sequence[Query], options: Selecting) -> list[Query]:
        """The queries, each with its vector, or its vectors if crops are searched too."""
        if options.strategy == "random" or all(query.vector is not None for query in queries):
            return list(queries)
        try:
            vectors = self.encoder.encode(queries, self.settings.max_pixels, crops=options.crops)
        except DataError as error:
            raise ApiError(
                422, "unreadable_image", error.message, "send whole JPEG, PNG or WebP files"
            ) from error
        return [replace(query, vector=vector) for query, vector in zip(queries, vectors, strict=True)]


def _select_options(index: Index, options: Selecting, queries: Sequence[Query]) -> SelectOptions:
    """The library's options; a client does not wait for a long scan where a FAISS file can do without.

    ApiError for a strategy that these queries or this index are not for.
    """
    quota = options.per_query or -(-(options.total or 1) // len(queries))
    engine: Engine = "exact"
    if not options.selection()["filters"].active and options.strategy != "cluster":
        engine = choose_engine(index, len(queries), OVERFETCH * quota, patience=SERVICE_SECONDS).engine
    if options.strategy == "text" and not all(query.prompts for query in queries):
        raise ApiError(
            422, "not_a_text", "strategy text takes queries that are texts", 'send {"text": …} only'
        )
    if options.strategy == "cluster" and index.rows > MOST_CLUSTERED:
        raise ApiError(
            422,
            "index_too_large",
            f"strategy cluster is served for up to {MOST_CLUSTERED} images, the index has {index.rows}",
            "use another strategy, or curate retrieve, which has no such limit",
        )
    return SelectOptions(**options.selection(), engine=engine)


def _web_address(url: str | None) -> str | None:
    """A URL that a page may show as an image; None for other schemes."""
    return url if url is not None and url.lower().startswith(("http://", "https://")) else None


def _result(pick: Pick, item: ItemRow, asked: Distinct, images_url: str | None) -> RetrievedItem:
    identity = item.item_id.hex()
    return RetrievedItem(
        item_id=identity,
        query=None if pick.query is None else asked.owners[pick.query],
        score=pick.similarity,
        rank=pick.rank,
        hinted_label=None if pick.query is None else asked.queries[pick.query].label,
        also=[asked.owners[query] for query in pick.also],
        key=item.key,
        caption=item.caption,
        url=item.url,
        width=item.width or None,
        height=item.height or None,
        extra=stored_object(item.extra),
        image_url=_web_address(item.url) if images_url is None else f"{images_url}/{identity}",
    )


def _classes(asked: Distinct, selection: Selection) -> list[ClassOutcome]:
    """By label, in their order; none for a random draw, which belongs to no class."""
    if selection.picks and selection.picks[0].query is None:
        return []
    found: dict[str | None, list[int]] = {}
    for query, quota, filled in zip(asked.queries, selection.quotas, selection.filled, strict=True):
        counts = found.setdefault(query.label, [0, 0])
        counts[0] += quota
        counts[1] += filled
    return [
        ClassOutcome(label=label, quota=quota, returned=filled, missing=max(0, quota - filled))
        for label, (quota, filled) in found.items()
    ]


def _outcomes(queries: Sequence[Query], asked: Distinct, selection: Selection) -> list[QueryOutcome]:
    outcomes = []
    for number, (query, place) in enumerate(zip(queries, asked.places, strict=True)):
        repeated = asked.owners[place] != number
        outcomes.append(
            QueryOutcome(
                query=number,
                label=query.label,
                quota=0 if repeated else selection.quotas[place],
                returned=0 if repeated else selection.filled[place],
                closing_similarity=None if repeated else selection.closing[place],
                same_as=asked.owners[place] if repeated else None,
            )
        )
    return outcomes


def _notes(queries: Sequence[Query], asked: Distinct, selection: Selection) -> list[str]:
    """What the client should know besides the numbers."""
    notes = []
    repeats = len(queries) - len(asked.queries)
    if repeats:
        notes.append(
            f"{repeats} of {len(queries)} queries repeat another one and take no images of their own"
        )
    if selection.missing:
        notes.append(
            f"{selection.missing} of {selection.requested} images are missing: the index has no more to give"
        )
    return notes
