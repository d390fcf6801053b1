"""building.parquet: the parts that a build has yet to write, each with its number. All processes that build
one index go by it, and a resumed build: so a part has the same number whoever writes it, and when."""

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from curate.index.layout import DONE, WORK, part_directory, part_name, work_schema
from curate.pools import PlannedPart, Source
from transferset.errors import DataError
from transferset.lock import DirectoryLock
from transferset.writes import TEMPORARY_PREFIX, remove, write_parquet

PART_LOCK = ".lock-part-"


@dataclass(frozen=True)
class NumberedPart:
    """A planned part and its number."""

    number: int
    part: PlannedPart


@dataclass
class Share:
    """What this process and its workers have written: numbers of parts; the forgotten images that were left
    out of them; sentences for the user."""

    parts: set[int] = field(default_factory=set)
    forgotten: int = 0
    notes: list[str] = field(default_factory=list)

    def add(self, number: int, forgotten: int, notes: Sequence[str]) -> None:
        """Note a part that is done."""
        self.parts.add(number)
        self.forgotten += forgotten
        self.notes.extend(notes)


def is_done(index: Path, number: int) -> bool:
    """Whether the part is on disk."""
    return (part_directory(index, number) / DONE).is_file()


def part_lock(index: Path, number: int) -> DirectoryLock:
    """Who holds it writes the part. A part that is not done and whose lock is free may be taken by
    anybody."""
    return DirectoryLock(index, f"{PART_LOCK}{part_name(number)}")


def sweep_part(index: Path, number: int) -> None:
    """Remove what a killed writer of the part has left; call it only while holding the part's lock."""
    directory = part_directory(index, number)
    for left in directory.parent.glob(f"{TEMPORARY_PREFIX}{directory.name}-*"):
        remove(left)


def sweep_part_locks(index: Path) -> None:
    """Remove lock files of killed processes; call it only where no process builds."""
    for left in Path(index).glob(f"{PART_LOCK}*"):
        remove(left)


def read_work(index: Path) -> list[NumberedPart]:
    """The parts of a build that has not ended, those included that are done; none where there is no such
    build.

    DataError where the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(index) / WORK
    try:
        rows = pq.read_table(path, schema=work_schema()).to_pylist()
    except FileNotFoundError:
        return []
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{path} is damaged: {error}", hint="remove it, and run the same curate build-index again"
        ) from error
    return [_part(list(group)) for _, group in itertools.groupby(rows, key=lambda row: row["number"])]


def _part(rows: Sequence[Mapping[str, int | str]]) -> NumberedPart:
    names = [entry.name for entry in fields(Source)]
    sources = tuple(Source(**{name: row[name] for name in names}) for row in rows)  # type: ignore[arg-type]
    return NumberedPart(int(rows[0]["number"]), PlannedPart(sources, int(rows[0]["images"])))


def write_work(index: Path, work: Iterable[NumberedPart]) -> None:
    """Write the file, or remove it where nothing is left to do."""
    import pyarrow as pa

    rows = [
        {"number": one.number, "images": one.part.images, **asdict(source)}
        for one in work
        for source in one.part.sources
    ]
    path = Path(index) / WORK
    if rows:
        write_parquet(path, pa.Table.from_pylist(rows, schema=work_schema()))
    elif os.path.lexists(path):
        path.unlink()


def continue_work(
    before: Sequence[NumberedPart], new: Sequence[Source], done: Iterable[int], alone: bool
) -> tuple[list[NumberedPart], list[Source], int]:
    """What of the work of an earlier or running build stays, the sources of `new` that are not in it, and the
    next free number.

    A part stays while all its sources are as they were when it was planned; where other processes are
    building (not `alone`), everything stays, because they may be at it. `done` are the numbers on disk.
    """
    following = 1 + max((*done, *(one.number for one in before)), default=-1)
    fresh = set(new)
    finished = set(done)
    kept = [
        one
        for one in before
        if one.number not in finished and (not alone or fresh.issuperset(one.part.sources))
    ]
    covered = {source for one in kept for source in one.part.sources}
    if not kept and alone:
        following = 1 + max(finished, default=-1)
    return kept, [source for source in new if source not in covered], following
