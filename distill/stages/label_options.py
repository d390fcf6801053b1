"""What `distill label` is given, and what it reports."""

from dataclasses import dataclass, field
from pathlib import Path

from distill.loop.execution import Execution
from transferset.errors import UsageError
from transferset.writes import check_file


@dataclass(frozen=True)
class LabelOptions:
    """What `distill label` is given.

    `views` K of every image, drawn with `seed` by `augment` as `train` draws them. `data`: labelled images
    that `train --data` is going to mix in at `labelled_share`, with the same `drop_near_copies`; they get as
    many more views as they are repeated. `decode_size`: short side that large JPEGs may be reduced to (None:
    the teacher's input; give the student's if that is larger). `top_k`: keep that many classes (None: all up
    to 256, else 64). `features`: keep the teacher's features too, which `feature_weight` and matching
    features take. `teacher_flip`: keep the mean answer for a view and its mirror image, as `train` with that
    option takes it (features are those of the view alone, see `over_mirror_images`).
    `table`: write one row per image there (Parquet); with `reject_from`, images of a pool, it also tells how
    much `reject_images` random ones of them look on task, which `curate refine` compares with (of 500 a share
    is known to some two points). `batch_size`, `runtime`, `precision`: of the teacher; a store that was begun
    keeps its own.
    """

    shards: tuple[str | Path, ...]
    teacher: Path
    out: Path
    views: int = 8
    augment: str = "standard"
    data: Path | None = None
    labelled_share: float = 0.1
    drop_near_copies: bool = False
    decode_size: int | None = None
    top_k: int | None = None
    features: bool = False
    teacher_flip: bool = False
    table: Path | None = None
    reject_from: tuple[str, ...] = ()
    reject_images: int = 500
    seed: int = 0
    batch_size: int = 64
    runtime: str = "auto"
    precision: str = "auto"
    execution: Execution = field(default_factory=Execution)

    def __post_init__(self) -> None:
        if self.views < 1:
            raise UsageError(f"--views {self.views} must be at least 1", hint="a store holds repeating views")
        if not 0 <= self.labelled_share < 1:
            raise UsageError(f"--labelled-share {self.labelled_share} must be at least 0 and less than 1")
        if self.batch_size < 1:
            raise UsageError(f"--batch-size {self.batch_size} must be at least 1")
        if self.decode_size is not None and self.decode_size < 1:
            raise UsageError(f"--decode-size {self.decode_size} must be at least 1")
        if self.table is not None and self.table.suffix != ".parquet":
            raise UsageError(f"--table {self.table} must end in .parquet")
        if self.table is not None:
            check_file(self.table, "--table")
        if self.reject_from and self.table is None:
            raise UsageError("--reject-from is for the --table", hint="give both, or leave it out")
        if self.reject_images < 1:
            raise UsageError(f"--reject-images {self.reject_images} must be at least 1")


@dataclass(frozen=True)
class LabelReport:
    """A finished store. `images` in `shards` files, `unreadable` ones among them; `labelled_now` were not
    there before this command; `features`: how many numbers are kept of each view's, 0: none; `flip`: answers
    are means over mirror images; `bytes` on disk."""

    out: str
    images: int
    shards: int
    views: int
    classes: int
    kept: str
    features: int
    flip: bool
    unreadable: int
    labelled_now: int
    bytes: int
    fingerprint: str
    table: str | None
