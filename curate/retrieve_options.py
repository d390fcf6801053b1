"""Options of `curate retrieve`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from curate.encoding.pipeline import PipelineOptions
from curate.selection.select_options import SelectOptions
from transferset.cores import available_cores
from transferset.errors import UsageError
from transferset.images import MAX_PIXELS

DEFAULT_SHARD_SIZE = 1_000


@dataclass(frozen=True)
class RetrieveOptions:
    """Options of `retrieve`.

    Attributes:
        selection: how many images and which strategy.
        exclude_dirs: folders (val, test) whose images must not be retrieved.
        near: whether near-duplicates, and near copies of excluded images, are kept out too.
        shard_size: samples per shard, 1 to 100,000; shards end before 1 GiB in any case.
        pool_roots: where pools are now, as {old path: new path}.
        max_pixels: larger query images are unreadable.
        max_error_rate: share of unreadable query images above which nothing is retrieved (None: no limit).
        workers: threads that read and decode (None: one a core). device: auto, cpu, cuda, …
    """

    selection: SelectOptions
    exclude_dirs: tuple[Path, ...] = ()
    shard_size: int = DEFAULT_SHARD_SIZE
    pool_roots: Mapping[str, str] = field(default_factory=dict)
    max_pixels: int = MAX_PIXELS
    max_error_rate: float | None = None
    workers: int | None = None
    device: str = "auto"
    near: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.shard_size <= 100_000:
            raise UsageError(f"--shard-size must be from 1 to 100,000, got {self.shard_size}")
        if self.max_error_rate is not None and not 0 <= self.max_error_rate <= 1:
            raise UsageError(f"--max-error-rate is a share, from 0 to 1, got {self.max_error_rate}")
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"--workers must be at least 1, got {self.workers}")

    @property
    def threads(self) -> int:
        """Threads that read and decode."""
        return self.workers or available_cores()

    @property
    def pipeline(self) -> PipelineOptions:
        """How images are read and encoded."""
        return PipelineOptions(self.threads, self.max_pixels)
