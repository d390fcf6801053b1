"""Writing a store of teacher outputs: what is missing, unit by unit, piece by piece."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distill.data.compact_logits import Compact, LogitFormat
from distill.data.label_shards import OUTPUTS, ShardFacts, Unit, map_tensors, write_shard, write_tensors
from distill.data.label_store import FORMAT_VERSION, STORE, finished_shards, store_fingerprint
from distill.data.labelling import Labelling
from distill.data.mixture import Mixture
from distill.data.samples import ImageReader
from distill.loop.run_directory import read_config
from distill.loop.stop import StopRequest, stop_requests
from distill.models.student import LABELS, PREPROCESSING
from transferset.console import say
from transferset.errors import DataError, InterruptedRun
from transferset.progress import Progress, progress
from transferset.writes import sweep_temporaries, write_json

if TYPE_CHECKING:
    from distill.models.teacher import Teacher

PIECES = "pieces"
PIECE = 512
"""Images that are labelled between two writes; what a kill costs at most."""


@dataclass(frozen=True, eq=False)
class Opened:
    """What is labelled, by whom, and how it is kept."""

    mixture: Mixture
    units: list[Unit]
    teacher: "Teacher"
    layout: LogitFormat
    decode_size: int


class StoreWriter:
    """Labels what is missing, unit by unit, piece by piece."""

    def __init__(self, out: Path, opened: Opened, labelling: Labelling) -> None:
        self.out = out
        self.opened = opened
        self.labelled = 0
        self.reader = ImageReader(opened.mixture.samples, opened.decode_size)
        self.labelling = labelling

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
            try:
                kept = map_tensors(path)
            except DataError as error:
                say(f"{error}; it is labelled again")
            else:
                bar.advance(rows[1] - rows[0])
                return kept
        for found in self.labelling.piece(self.reader, unit, *rows):
            if not isinstance(found, int):
                write_tensors(path, found)
                self.labelled += rows[1] - rows[0]
                return map_tensors(path)
            bar.advance(found)
            if stop.asked:
                raise InterruptedRun(
                    f"stopped in {unit.name}, at most {PIECE} images are lost",
                    hint="re-run the same command to resume",
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
        if unreadable:
            reason = next(reason for shard in shards for reason in shard.unreadable.values())
            say(f"{unreadable} of {images} images could not be read; the first: {reason}")
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
            "teacher_flops": looked_at * self.labelling.answers.flops_per_image,
        }
        write_json(self.out / STORE, facts)
