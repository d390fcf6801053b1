"""The near checks of a retrieval: thresholds, the excluded images' views, near-duplicates; and their cost."""

from pathlib import Path

from curate.copies.calibration import calibrate
from curate.copies.excluded_views import excluded_views
from curate.encoding.pipeline import PipelineOptions
from curate.index.encoder import IndexEncoder
from curate.index.index import Index
from curate.selection.guard import ExcludedSet, LeakageGuard
from curate.selection.near_copies import NearCopies
from curate.selection.near_duplicates import NearDuplicates
from curate.selection.thresholds import Calibration, stored_calibration
from curate.transfer_set.plan import require_usable
from transferset.console import say
from transferset.images import MAX_PIXELS
from transferset.models.preprocessing import Preprocessing
from transferset.models.runtime import FrozenModel


def find_calibration(
    index: Index, out: Path, encoder: IndexEncoder, pipeline: PipelineOptions
) -> Calibration | None:
    """The index's calibration; if it has none it is calibrated first, after a look whether `out` can be
    written at all. None where the index knows no bytes: `curate fetch` looks at those that it gets."""
    if not index.has_bytes:
        return None
    found = stored_calibration(index.path, index.manifest)
    if found is not None:
        return found
    require_usable(out)
    say(f"{index.path} has no thresholds for near copies yet: calibrating (curate calibrate does this too)")
    return calibrate(index, encoder.model, pipeline=pipeline).calibration


def near_copies(
    excluded: ExcludedSet,
    index: Index,
    model: FrozenModel,
    calibration: Calibration,
    pipeline: PipelineOptions,
) -> NearCopies:
    """The excluded images with the vectors of their views, stored ones of `index` or new ones."""
    images = excluded.images
    return NearCopies(
        excluded_views(images, index, model, pipeline),
        lambda number: images[number].path.read_bytes(),
        calibration,
        pipeline.max_pixels or MAX_PIXELS,
        pipeline.threads,
    )


def make_checks(
    encoder: IndexEncoder, excluded: ExcludedSet | None, near: Calibration | None, pipeline: PipelineOptions
) -> tuple[LeakageGuard | None, NearDuplicates | None]:
    """What a selection is checked with: against the excluded images (None if there are none), and for
    near-duplicates; without `near` only for exact copies."""
    index, max_pixels = encoder.index, pipeline.max_pixels or MAX_PIXELS
    duplicates = guard = None
    if near is not None:
        duplicates = NearDuplicates(index, near.thresholds, max_pixels, pipeline.threads)
    if excluded is not None and index.has_bytes:
        short_side = Preprocessing.from_dict(index.plan.encoder.preprocessing).resize_short_side
        copies = None if near is None else near_copies(excluded, index, encoder.model, near, pipeline)
        guard = LeakageGuard(excluded, index, short_side, max_pixels, copies, pipeline.threads)
    return guard, duplicates
