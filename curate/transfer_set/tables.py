"""samples.parquet, queries.parquet and removed.parquet."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from curate.selection.queries import QuerySet
from curate.selection.removed import Removed
from curate.selection.selection import Selection
from curate.transfer_set.samples import Sample
from curate.transfer_set.shards import Shard

if TYPE_CHECKING:
    import pyarrow as pa

    from curate.index.index import Index


@cache
def samples_schema() -> "pa.Schema":
    """Columns of samples.parquet, one row per sample in shard order. Ids are text (32 hex digits), as in the
    shards."""
    import pyarrow as pa

    columns = {
        "item_id": pa.string(),
        "shard": pa.string(),
        "offset": pa.int64(),
        "size": pa.int64(),
        "query_ids": pa.list_(pa.string()),
        "hinted_label": pa.string(),
        "rank": pa.int32(),
        "similarity": pa.float64(),
        "source": pa.string(),
        "url": pa.string(),
        "licence": pa.string(),
    }
    return pa.schema(list(columns.items()))


def shard_table(shard: Shard) -> "pa.Table":
    """The rows of samples.parquet for one shard; offset and size are of the image's bytes in the tar."""
    import pyarrow as pa

    rows = [
        {**sample.provenance, "shard": shard.name, "offset": offset, "size": sample.size}
        for sample, offset in zip(shard.samples, shard.offsets, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=samples_schema())


def unfetched_table(samples: Sequence[Sample]) -> "pa.Table":
    """The rows of samples.parquet before `curate fetch`: shard, offset and size are null; what the index says
    of each image (key, caption, width, height; null where it doesn't) stands here, as there are no shards
    yet."""
    import pyarrow as pa

    schema = samples_schema()
    for name, kind in (
        ("key", pa.string()),
        ("caption", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
    ):
        schema = schema.append(pa.field(name, kind))
    return pa.Table.from_pylist([sample.provenance for sample in samples], schema=schema)


def queries_table(query_set: QuerySet, selection: Selection, written: bool) -> "pa.Table":
    """One row per query: its quota, how much of it was filled, the similarity at which it closed and the mean
    one of a random image of the pool; then the unreadable files with the reason. `written` says whether the
    queries are samples too."""
    import pyarrow as pa

    schema = pa.schema(
        {
            "query_id": pa.string(),
            "label": pa.string(),
            "name": pa.string(),
            "quota": pa.int32(),
            "filled": pa.int32(),
            "closing_similarity": pa.float64(),
            "random_similarity": pa.float64(),
            "written": pa.bool_(),
            "error": pa.string(),
        }
    )
    background = selection.background
    random = background.mean if background is not None else (None,) * len(selection.quotas)
    columns = zip(
        query_set.queries, selection.quotas, selection.filled, selection.closing, random, strict=True
    )
    rows = [
        {
            "query_id": query.query_id,
            "label": query.label,
            "name": query.name,
            "quota": quota,
            "filled": filled,
            "closing_similarity": None if closing is None else round(closing, 4),
            "random_similarity": chance,
            "written": written,
        }
        for query, quota, filled, closing, chance in columns
    ]
    rows += [{"label": error.label, "name": error.name, "error": error.reason} for error in query_set.errors]
    return pa.Table.from_pylist(rows, schema=schema)


def removed_table(index: "Index", removed: Sequence[Removed]) -> "pa.Table":
    """A row a pool item that was kept out; see `Removed` for `why`, `match`, `similarity` and `agreement`."""
    import numpy as np
    import pyarrow as pa

    texts = [(name, pa.string()) for name in ("item_id", "why", "match", "source", "key")]
    schema = pa.schema([*texts, ("similarity", pa.float64()), ("agreement", pa.float64())])
    items = index.items(np.array([one.position for one in removed], dtype=np.int64))
    rows = [
        {
            "item_id": item.item_id.hex(),
            "why": one.why,
            "match": one.match,
            "source": item.source if item.source is not None else item.path,
            "key": item.key,
            "similarity": one.similarity,
            "agreement": one.agreement,
        }
        for item, one in zip(items, removed, strict=True)
    ]
    return pa.Table.from_pylist(sorted(rows, key=lambda row: (row["why"], row["item_id"])), schema=schema)
