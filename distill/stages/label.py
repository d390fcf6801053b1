"""`distill label`: what a teacher says of K views of every image, stored for any number of students."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.data.compact_logits import Compact, LogitFormat, logit_format
from distill.data.label_shards import OUTPUTS, ShardFacts, Unit, map_tensors, write_shard, write_tensors
from distill.data.label_store import (
    FORMAT_VERSION,
    STORE,
    LabelStore,
    finished_shards,
    open_store,
    store_fingerprint,
)
from distill.data.labelling import Labelling
from distill.data.mixture import Mixture, mix
from distill.data.samples import ImageReader
from distill.data.transfer_shards import open_transfer_shards
from distill.data.views import augmentation
from distill.loop.execution import Execution, torch_threads
from distill.loop.run_directory import RunDirectory, read_config
from distill.loop.stop import StopRequest, stop_requests
from distill.models.student import LABELS, PREPROCESSING
from distill.stages.label_table import write_table
from transferset.console import Progress, progress, say
from transferset.errors import DataError, InterruptedRun, UsageError
from transferset.labelled import load_labelled
from transferset.lock import DirectoryLock
from transferset.writes import sweep_temporaries, write_json

if TYPE_CHECKING:
    from distill.models.teacher import Teacher

PIECES = "pieces"
PIECE = 512
"""Images that are labelled between two writes; what a kill costs at most."""


@dataclass(frozen=True)
class LabelOptions:
    """What `distill label` is given.

    `views` K of every image, drawn with `seed` by `augment` as `train` draws them. `data`: labelled images
    that `train --data` is going to mix in at `labelled_share`; they get as many more views as they are
    repeated. `decode_size`: short side that large JPEGs may be reduced to (None: the teacher's input; give
    the student's if that is larger). `top_k`: keep that many classes (None: all up to 256, else 64).
    `table`: write one row an image there (Parquet). `batch_size`, `runtime`: of the teacher.
    """

    shards: tuple[str | Path, ...]
    teacher: Path
    out: Path
    views: int = 8
    augment: str = "standard"
    data: Path | None = None
    labelled_share: float = 0.1
    decode_size: int | None = None
    top_k: int | None = None
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
    there before this command; `bytes` on disk."""

    out: str
    images: int
    shards: int
    views: int
    classes: int
    kept: str
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
            labelled_now = _Writer(options, opened, int(resolved["batch_size"])).run()
        store = open_store(out)
        if options.table is not None:
            write_table(options.table, store, opened.mixture, options.shards)
    return _report(options, store, labelled_now)


@dataclass(frozen=True, eq=False)
class _Opened:
    mixture: Mixture
    units: list[Unit]
    teacher: "Teacher"
    layout: LogitFormat
    decode_size: int


def _open(options: LabelOptions, resolved: dict[str, Any]) -> _Opened:
    from distill.models.teacher import open_teacher

    shards = open_transfer_shards(options.shards)
    if shards.dropped:
        say(f"left out {len(shards.dropped)} samples; the first: {': '.join(shards.dropped[0])}")
    labelled = load_labelled(options.data) if options.data is not None else None
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
    return _Opened(mixture, mixture.units(options.views), teacher, layout, decode_size)


def _config(options: LabelOptions, opened: _Opened, resolved: dict[str, Any]) -> dict[str, Any]:
    """config.json: `arguments` and `inputs` are what a store must agree with; no time, host or path."""
    from distill.models.teacher import runtime_facts

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
            "description": teacher.description,
            "sha256": teacher.fingerprint,
            "flops_per_image": teacher.flops_per_image,
            **runtime_facts(teacher.model),
        },
        "decoder": decoder_versions(),
    }


def decoder_versions() -> dict[str, str]:
    """The libraries that make pixels of bytes. They are written down; a change of the last bits of some
    pixels does not make a store another one."""
    import PIL
    import simplejpeg

    return {"pillow": str(PIL.__version__), "simplejpeg": str(getattr(simplejpeg, "__version__", "unknown"))}


class _Writer:
    """Labels what is missing, unit by unit, piece by piece."""

    def __init__(self, options: LabelOptions, opened: _Opened, batch_size: int) -> None:
        self.out = options.out
        self.opened = opened
        self.labelled = 0
        self.reader = ImageReader(opened.mixture.samples, opened.decode_size)
        self.labelling = Labelling(
            opened.teacher,
            batch_size,
            augmentation(options.augment),
            options.seed,
            opened.layout,
            options.execution.readers,
        )

    def run(self) -> int:
        """Write everything that is not there; returns how many images were labelled."""
        opened, out = self.opened, self.out
        for folder in (out / OUTPUTS, out / PIECES):
            folder.mkdir(exist_ok=True)
            sweep_temporaries(folder)
        samples, units = opened.mixture.samples, opened.units
        done = finished_shards(out, samples, units)
        missing = sum(len(unit.rows) for number, unit in enumerate(units) if number not in done)
        if missing:
            (out / STORE).unlink(missing_ok=True)
            total = sum(len(unit.rows) for unit in units)
            with stop_requests() as stop, progress("label", total, "images", total - missing) as bar:
                bar.note(f"{units[0].views} views each")
                for number, unit in enumerate(units):
                    if number not in done:
                        done[number] = self._shard(number, unit, bar, stop)
        else:
            say(f"{out} is complete: nothing to label")
        self._finish([done[number] for number in range(len(units))])
        return self.labelled

    def _shard(self, number: int, unit: Unit, bar: Progress, stop: StopRequest) -> ShardFacts:
        """One file of the store; the pieces of it that are there already are taken."""
        starts = range(0, len(unit.rows), PIECE)
        pieces = [
            self._piece(
                self.out / PIECES / f"{number:06d}-{start:08d}.safetensors",
                unit,
                (start, min(start + PIECE, len(unit.rows))),
                bar,
                stop,
            )
            for start in starts
        ]
        readable = [int(row) for piece in pieces for row in piece["readable"]]
        unreadable = {
            str(row): self._reason(int(unit.rows[row])) for row, whole in enumerate(readable) if not whole
        }
        samples = self.opened.mixture.samples
        facts = ShardFacts(unit.name, len(readable), unit.views, unit.ids_sha256(samples), "", unreadable)
        written = write_shard(self.out, number, facts, pieces)
        del pieces
        for path in (self.out / PIECES).glob(f"{number:06d}-*.safetensors"):
            path.unlink()
        return written

    def _piece(
        self, path: Path, unit: Unit, rows: tuple[int, int], bar: Progress, stop: StopRequest
    ) -> Compact:
        if path.is_file():
            bar.advance(rows[1] - rows[0])
            return map_tensors(path)
        for found in self.labelling.piece(self.reader, unit, *rows):
            if not isinstance(found, int):
                write_tensors(path, found)
                self.labelled += rows[1] - rows[0]
                return found
            bar.advance(found)
            if stop.asked:
                raise InterruptedRun(
                    f"stopped in {unit.name}, at most {PIECE} images are lost",
                    hint="re-run the same command to go on",
                )
        raise AssertionError("a piece ends with its tensors")

    def _reason(self, index: int) -> str:
        """Why an image cannot be read, without the folder it lies in: known, or, where an earlier process
        found it, asked again."""
        self.reader.attempt(index)
        samples = self.opened.mixture.samples
        path = samples.sources[samples.source[index]]
        return self.reader.dropped.get(samples.name(index), "unreadable").replace(str(path), path.name)

    def _finish(self, shards: list[ShardFacts]) -> None:
        """The classes and, last, store.json."""
        unreadable = sum(len(shard.unreadable) for shard in shards)
        images = sum(shard.images for shard in shards)
        if unreadable == images:
            _, reason = next(iter(shards[0].unreadable.items()))
            raise DataError(f"none of the {images} images can be read; the first: {reason}")
        shutil.rmtree(self.out / PIECES)
        teacher = self.opened.teacher
        write_json(self.out / LABELS, list(teacher.classes))
        write_json(self.out / PREPROCESSING, teacher.preprocessing.to_dict())
        config = read_config(self.out)
        looked_at = sum((shard.images - len(shard.unreadable)) * shard.views for shard in shards)
        facts = {
            "format_version": FORMAT_VERSION,
            "fingerprint": store_fingerprint(config, shards),
            "shards": len(shards),
            "images": images,
            "unreadable": unreadable,
            "teacher_images": looked_at,
            "teacher_flops": looked_at * teacher.flops_per_image,
        }
        write_json(self.out / STORE, facts)


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
        unreadable=sum(len(one.unreadable) for one in facts),
        labelled_now=labelled_now,
        bytes=sum(path.stat().st_size for path in _files(options.out / OUTPUTS)),
        fingerprint=store.fingerprint,
        table=str(options.table) if options.table is not None else None,
    )


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.suffix in (".safetensors", ".json"))
