"""What cells share: drawn labels, transfer sets, adapted teachers, and what teachers said of a set."""

import contextlib
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from distill.comparison.cells import Cell, draw_name
from distill.comparison.costs import Cost, cost_of_run, read_seconds, wall_clock
from distill.comparison.labels import Drawn, draw_labels, load_task
from distill.comparison.recipe import METHODS, OWN, Recipe, Schedule, Teacher
from distill.comparison.teacher_options import adapt_options
from distill.data.label_store import STORE, open_store
from distill.data.transfer_shards import open_transfer_shards
from distill.loop.execution import Execution
from distill.loop.run_directory import REPORT
from distill.methods.transfer import PSEUDO_LABELS, TASK_ORIENTED
from distill.models.student import read_preprocessing
from distill.stages.adapt import adapt
from distill.stages.adaptation import UNREADABLE
from distill.stages.label import LabelOptions, label
from transferset.console import say
from transferset.copies import item_id
from transferset.errors import DataError
from transferset.images import IMAGE_SUFFIXES, ImageError, read_header
from transferset.labelled import LabelledSet
from transferset.lock import DirectoryLock
from transferset.open_files import raise_if_too_many_files
from transferset.writes import atomic_path, read_json, write_json

_LOCK = ".compare.lock"
_MADE_OF = "made_of.json"


@dataclass(frozen=True)
class OpenedSet:
    """A transfer set of one cell: where, its fingerprint and how many images."""

    path: Path
    sha256: str
    images: int


@dataclass
class Shared:
    """Makes each shared thing when it is first needed; several processes may work beside each other."""

    recipe: Recipe
    out: Path
    execution: Execution
    task: LabelledSet = field(init=False)
    lacking: dict[str, str] = field(default_factory=dict)
    _made: dict[Path, list[Cost]] = field(default_factory=dict)
    _draws: dict[str, Drawn] = field(default_factory=dict)
    _sets: dict[Path, OpenedSet] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.task = load_task(self.recipe.task)

    def draw(self, labels: str, seed: int) -> Drawn:
        """The labelled images of a budget and seed."""
        name = draw_name(labels, seed)
        if name not in self._draws:
            self._draws[name] = draw_labels(self.task, labels, seed, self.out / "labels" / f"{name}.parquet")
        return self._draws[name]

    def transfer_set(self, cell: Cell) -> OpenedSet:
        """The cell's transfer set; raises as `open_transfer_shards` where it cannot be used."""
        assert cell.transfer_set is not None
        if cell.transfer_set.path == OWN:
            path = self.own_images()
        else:
            path = cell.transfer_set.at(cell.labels, cell.seed, self.recipe.root)
        if path not in self._sets:
            samples = open_transfer_shards((path,)).samples
            self._sets[path] = OpenedSet(path, samples.fingerprint, len(samples))
        return self._sets[path]

    def own_images(self) -> Path:
        """A tar of all the task's training images that can be read, without their labels; the same bytes
        once. What it lacks is told and listed beside it; DataError where that is everything. It is made again
        when these images are others, or have other sizes."""
        tar = self.out / "own" / "000000.tar"
        images = [image.path for image in self.task.split("train").images]
        with DirectoryLock(tar.parent, _LOCK, wait=True):
            made_of = {"sha256": _sizes_sha256(images)}
            record = tar.with_name(_MADE_OF)
            if not (tar.exists() and record.exists() and read_json(record) == made_of):
                found, unreadable = _by_id(images)
                if unreadable:
                    _tell_unreadable(tar.with_name(UNREADABLE), unreadable, len(found))
                _write_tar(tar, found)
                write_json(record, made_of)
        return tar

    def teacher(self, teacher: Teacher, labels: str, seed: int) -> tuple[Path, list[Cost]]:
        """The teacher adapted to the drawn labels, and what that cost."""
        out = self.out / "teachers" / teacher.name / draw_name(labels, seed)
        if out in self._made:
            return out, list(self._made[out])
        clock = out.with_name(f"{out.name}.seconds.json")
        with DirectoryLock(out, _LOCK, wait=True), wall_clock(clock, out / REPORT):
            report = adapt(
                adapt_options(
                    teacher,
                    self.draw(labels, seed).table,
                    out,
                    seed=seed,
                    runtime=self.recipe.runtime,
                    execution=self.execution,
                )
            )
        self._made[out] = cost_of_run("adapt", report.costs, read_seconds(clock), shared=True)
        return out, list(self._made[out])

    def storing_pays(self, cell: Cell, images: int) -> bool:
        """Whether the methods that can learn from a store ask the teacher less often through it."""
        schedule = self.recipe.schedule
        used = cell.transfer_set.methods if cell.transfer_set and cell.transfer_set.methods else METHODS
        users = len(storable_methods(schedule) & set(self.recipe.methods) & set(used))
        epochs = schedule.epochs or (schedule.steps or 0) * schedule.batch_size / images or schedule.views
        return schedule.views > 0 and users * min(epochs, schedule.views) > schedule.views

    def store(self, cell: Cell, teacher: Path) -> tuple[Path, list[Cost]]:
        """What the teacher says of the cell's set, stored, and what that cost."""
        assert cell.teacher is not None and cell.transfer_set is not None
        schedule, student = self.recipe.schedule, self.recipe.student
        out = self.out / "stores" / cell.teacher.name / cell.transfer_set.name / cell.draw
        if out in self._made:
            return out, list(self._made[out])
        clock = out.with_name(f"{out.name}.seconds.json")
        size = read_preprocessing(teacher).size
        with DirectoryLock(out, _LOCK, wait=True), wall_clock(clock, out / STORE):
            label(
                LabelOptions(
                    shards=(self.transfer_set(cell).path,),
                    teacher=teacher,
                    out=out,
                    views=schedule.views,
                    augment=schedule.augment,
                    data=self.draw(cell.labels, cell.seed).table,
                    labelled_share=schedule.labelled_share,
                    decode_size=max(size, student.image_size or size),
                    seed=cell.seed,
                    batch_size=schedule.batch_size,
                    runtime=self.recipe.runtime,
                    execution=self.execution,
                )
            )
            store = open_store(out)
        images = sum(shard.facts.images * shard.facts.views for shard in store.shards)
        flops = images * float(store.teacher["flops_per_image"])
        self._made[out] = [Cost("label", images, flops, read_seconds(clock), shared=True)]
        return out, list(self._made[out])


def storable_methods(schedule: Schedule) -> frozenset[str]:
    """The methods that match class outputs alone, which is what the stores of a comparison hold.

    With features they would be many times as large, and a comparison that was begun without them would go on
    with students that have learnt in another way.
    """
    return frozenset({PSEUDO_LABELS} if schedule.feature_weight else {PSEUDO_LABELS, TASK_ORIENTED})


def _sizes_sha256(images: list[Path]) -> str:
    digest = hashlib.sha256()
    for image in images:
        try:
            size = image.stat().st_size
        except OSError:
            size = -1
        digest.update(os.fsencode(image) + b"\0%d\0" % size)
    return digest.hexdigest()


def _by_id(images: list[Path]) -> tuple[dict[str, Path], dict[str, str]]:
    """Images by the ids of their bytes, and why the others cannot be read."""
    found, unreadable = {}, {}
    for image in images:
        try:
            found[item_id(image.read_bytes()).hex()] = image
        except OSError as error:
            raise_if_too_many_files(error)
            unreadable[str(image)] = error.strerror or str(error)
    return found, unreadable


def _tell_unreadable(path: Path, unreadable: dict[str, str], left: int) -> None:
    """Write the list, and say it; DataError where nothing is left."""
    write_json(path, unreadable)
    first, reason = next(iter(unreadable.items()))
    told = f"{len(unreadable)} training images could not be read; the first: {first}: {reason}"
    if not left:
        raise DataError(told, hint="correct the paths of the task, or leave the transfer set `own` out")
    say(f"{told}: the transfer set `{OWN}` goes without")


def _write_tar(path: Path, found: dict[str, Path]) -> None:
    """Members `<item id>.<ext>`, in the order of the ids; nothing of the machine or the time in it."""
    import io
    import tarfile

    with atomic_path(path) as temporary, tarfile.open(temporary, "x", format=tarfile.USTAR_FORMAT) as tar:
        for identity, image in sorted(found.items()):
            data = image.read_bytes()
            suffix = image.suffix.lower()
            if suffix not in IMAGE_SUFFIXES:  # a list or table may name images as it likes
                with contextlib.suppress(ImageError):
                    suffix = f".{read_header(data).format}"
            member = tarfile.TarInfo(f"{identity}{suffix}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def set_sha256(shared: Shared, cell: Cell) -> str | None:
    """The fingerprint of the cell's transfer set, whatever the folder it lies in."""
    if cell.transfer_set is None:
        return None
    return hashlib.sha256(shared.transfer_set(cell).sha256.encode()).hexdigest()
