"""What ids of an index are made of: bytes or, where the pool is of ready embeddings, URLs or paths. An index
has one kind."""

from pathlib import Path

from curate.index.options import DEFAULT_ENCODER
from curate.index.plan import Plan
from curate.pools import PoolListing
from curate.pools.listing import MADE_OF
from transferset.errors import UsageError


def require_kind(index: Path, plan: Plan | None, listing: PoolListing) -> None:
    """UsageError if the pools give ids of another kind than the index holds."""
    if plan is not None and listing.sources and plan.id_kind != listing.id_kind:
        raise UsageError(
            f"{index} holds images under ids of {MADE_OF[plan.id_kind]}, and this pool gives ids "
            f"of {MADE_OF[listing.id_kind]}: they can't be mixed",
            hint="give another --index",
        )


def require_images(listing: PoolListing) -> None:
    """UsageError if the pools are of ready embeddings, where an encoder's rate says nothing."""
    if listing.id_kind != "bytes":
        raise UsageError(
            "the pool is of ready embeddings: there are no images to try an encoder on",
            hint="build-index copies some 10,000 rows of them per second",
        )


def require_dimension(plan: Plan, listing: PoolListing) -> None:
    """UsageError if there are ready embeddings that can't be from the encoder."""
    for dimension, path in sorted(listing.dimensions.items()):
        if dimension != plan.encoder.dimension:
            raise UsageError(
                f"the embeddings in {path} have {dimension} numbers, those of the encoder "
                f"{plan.encoder.spec} have {plan.encoder.dimension}",
                hint="--encoder must name the model that these embeddings are from",
            )


def notes_on_encoder(plan: Plan | None, listing: PoolListing, encoder: str | None) -> list[str]:
    """What to say where a new index takes ready embeddings for the default encoder's."""
    if plan is not None or listing.id_kind == "bytes" or encoder is not None:
        return []
    return [
        f"the ready embeddings are assumed to be from {DEFAULT_ENCODER}; if another model made them, build "
        "another index with --encoder"
    ]
