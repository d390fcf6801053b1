"""`distill label`: what a teacher says of K views of every image, stored for any number of students."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.data.compact_logits import logit_format
from distill.data.label_shards import OUTPUTS
from distill.data.label_store import (
    LabelStore,
    open_store,
)
from distill.data.labelling import Labelling
from distill.data.mixture import mix
from distill.data.transfer_shards import open_transfer_shards
from distill.data.views import augmentation
from distill.loop.execution import Execution, torch_threads
from distill.loop.run_directory import RunDirectory
from distill.splits.checked import check_splits
from distill.stages.label_table import write_table
from distill.stages.label_writer import Opened, StoreWriter
from transferset.console import say
from transferset.errors import UsageError
from transferset.labelled import load_labelled
from transferset.lock import DirectoryLock

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class LabelOptions:
    """What `distill label` is given.

    `views` K of every image, drawn with `seed` by `augment` as `train` draws them. `data`: labelled images
    that `train --data` is going to mix in at `labelled_share`, with the same
    `drop_near_copies`; they get as many more views as they are
    repeated. `decode_size`: short side that large JPEGs may be reduced to (None: the teacher's input; give
    the student's if that is larger). `top_k`: keep that many classes (None: all up to 256, else 64).
    `features`: keep the teacher's features too, which `feature_weight` and matching features take.
    `table`: write one row an image there (Parquet). `batch_size`, `runtime`: of the teacher.
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
    table: Path | None = None
    seed: int = 0
    batch_size: int = 64
    runtime: str = "auto"
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


@dataclass(frozen=True)
class LabelReport:
    """A finished store. `images` in `shards` files, `unreadable` ones among them; `labelled_now` were not
    there before this command; `features`: how many numbers are kept of each view's, 0: none; `bytes` on
    disk."""

    out: str
    images: int
    shards: int
    views: int
    classes: int
    kept: str
    features: int
    unreadable: int
    labelled_now: int
    bytes: int
    fingerprint: str
    table: str | None


def label(options: LabelOptions) -> LabelReport:
    """Write the teacher's outputs to `options.out`, shard by shard; the same command goes on where it was
    stopped and keeps every shard that has its checksum. The same inputs give the same bytes.

    Raises UsageError for a store that was written with other arguments, another teacher or other images,
    DataError where nothing can be read or the teacher is damaged, NumericError, InterruptedRun.
    """
    augmentation(options.augment)
    out, run = options.out, RunDirectory(options.out)
    with DirectoryLock(out):
        resolved = run.resolved() or {**options.execution.resolve(), "batch_size": options.batch_size}
        with torch_threads(resolved["threads"]):
            opened = _open(options, resolved)
            run.open(_config(options, opened, resolved))
            labelled_now = StoreWriter(out, opened, _labelling(options, opened, resolved)).run()
        store = open_store(out)
        if options.table is not None:
            write_table(options.table, store, opened.mixture, options.shards)
    return _report(options, store, labelled_now)


def _open(options: LabelOptions, resolved: dict[str, Any]) -> Opened:
    from distill.models.teacher import open_teacher

    shards = open_transfer_shards(options.shards)
    if shards.dropped:
        say(f"left out {len(shards.dropped)} samples; the first: {': '.join(shards.dropped[0])}")
    labelled = None
    if options.data is not None:  # as train does: the store must hold the same images
        labelled = check_splits(
            load_labelled(options.data),
            drop_near=options.drop_near_copies,
            workers=options.execution.workers,
        ).labelled
    mixture = mix(shards.samples, labelled, options.labelled_share).identified(options.execution.readers)
    teacher = open_teacher(
        options.teacher,
        runtime=resolved.get("runtime", options.runtime),
        batch_size=resolved["batch_size"],
        device=resolved["device"],
        threads=resolved["threads"],
    )
    layout = logit_format(len(teacher.classes), options.top_k)
    decode_size = options.decode_size or teacher.preprocessing.size
    return Opened(mixture, mixture.units(options.views), teacher, layout, decode_size)


def _labelling(options: LabelOptions, opened: Opened, resolved: dict[str, Any]) -> Labelling:
    return Labelling(
        opened.teacher,
        int(resolved["batch_size"]),
        augmentation(options.augment),
        options.seed,
        opened.layout,
        options.execution.readers,
        options.features,
    )


def _config(options: LabelOptions, opened: Opened, resolved: dict[str, Any]) -> dict[str, Any]:
    """config.json: `arguments` and `inputs` are what a store must agree with; no time, host or path of
    labelling."""
    teacher, samples = opened.teacher, opened.mixture.samples
    return {
        "command": "label",
        "arguments": {
            "views": options.views,
            "augment": options.augment,
            "augmentation": augmentation(options.augment).to_dict(),
            "seed": options.seed,
            "decode_size": opened.decode_size,
            "top_k": opened.layout.top,
            "labelled_views": opened.units[-1].views if opened.mixture.labelled else None,
            **({"features": teacher.model.dimension} if options.features else {}),
        },
        "inputs": {
            "samples": len(samples),
            "samples_sha256": samples.fingerprint,
            "shards": len(opened.units),
            "teacher_sha256": teacher.fingerprint,
            "teacher_temperature": float(teacher.head.temperature),
        },
        "resolved": {**resolved, "runtime": teacher.model.info.runtime},
        "teacher": {
            **teacher.facts(),
            "sha256": teacher.fingerprint,
            "flops_per_image": teacher.flops_per_image,
        },
        "decoder": decoder_versions(),
    }


def decoder_versions() -> dict[str, str]:
    """The libraries that make pixels of bytes. They are written down; a change of the last bits of some
    pixels does not make a store another one."""
    import PIL
    import simplejpeg

    return {"pillow": str(PIL.__version__), "simplejpeg": str(getattr(simplejpeg, "__version__", "unknown"))}


def _report(options: LabelOptions, store: LabelStore, labelled_now: int) -> LabelReport:
    facts = [shard.facts for shard in store.shards]
    top = store.layout.top
    return LabelReport(
        out=str(options.out),
        images=sum(one.images for one in facts),
        shards=len(facts),
        views=store.views,
        classes=len(store.classes),
        kept="all classes" if top is None else f"the {top} largest and the rest",
        features=store.features,
        unreadable=sum(len(one.unreadable) for one in facts),
        labelled_now=labelled_now,
        bytes=sum(path.stat().st_size for path in _files(options.out / OUTPUTS)),
        fingerprint=store.fingerprint,
        table=str(options.table) if options.table is not None else None,
    )


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.suffix in (".safetensors", ".json"))
