"""Where images come from: folders, WebDataset tars, Parquet tables, ready embeddings."""

from curate.pools.items import FORGOTTEN, PlannedPart, PoolItem, PoolListing, Problem, Source
from curate.pools.listing import list_pools
from curate.pools.partition import plan_parts
from curate.pools.reader import PartReader
from curate.pools.roots import Root, Roots, parse_moved
from curate.pools.tar_images import count_images

__all__ = [
    "FORGOTTEN",
    "PartReader",
    "PlannedPart",
    "PoolItem",
    "PoolListing",
    "Problem",
    "Root",
    "Roots",
    "Source",
    "count_images",
    "list_pools",
    "parse_moved",
    "plan_parts",
]
