"""verify: every checksum of an index, and what to do about what is damaged."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from curate.index.ids import generation, load_ids, sort_ids
from curate.index.layout import (
    DONE,
    FAISS,
    IDS,
    LEDGER,
    MANIFEST,
    PARTS,
    PARTS_TABLE,
    PLAN,
    THRESHOLDS,
    VIEWS_CACHE,
    WHITENING,
    part_directory,
)
from curate.index.ledger import REPAIR, read_ledger
from curate.index.manifest import finished_part, read_manifest
from curate.index.numbering import Numbering
from curate.index.part import Part
from curate.index.plan import read_plan
from curate.index.search.faiss_file import faiss_damage, read_about
from curate.index.stored_views import is_whole, stored_files
from transferset.errors import DataError
from transferset.progress import progress
from transferset.writes import sha256_file

_BUILD_AGAIN = "run curate build-index again on the same pools"
_COPY = "restore it from a copy"


class Checked(NamedTuple):
    """A file, or a cache, by its path below the index; `problem` and `repair` are None if it is whole."""

    path: str
    problem: str | None = None
    repair: str | None = None


@dataclass(frozen=True)
class VerifyReport:
    """What was looked at: files in parts, caches and tables."""

    index: Path
    checked: tuple[Checked, ...]

    @property
    def damaged(self) -> tuple[Checked, ...]:
        return tuple(one for one in self.checked if one.problem is not None)

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "index": str(self.index),
            "checked": len(self.checked),
            "damaged": [one._asdict() for one in self.damaged],
        }


class Damaged(DataError):
    """`verify` found damage; the report says what."""

    def __init__(self, report: VerifyReport) -> None:
        found = report.damaged
        super().__init__(
            f"{len(found)} of {len(report.checked)} files of {report.index} are damaged: "
            + "; ".join(f"{one.path} ({one.problem})" for one in found[:3]),
            hint=found[0].repair,
        )
        self.report = report


def verify(index: Path) -> VerifyReport:
    """Read every file of an index and compare it with its checksum; caches are compared with the parts.

    Nothing is changed. `report.damaged` says what is wrong and how to repair it; DataError only if `index` is
    no index at all.
    """
    index = Path(index)
    if not (index / PLAN).is_file():
        raise DataError(f"{index} is not an index: it has no {PLAN}", hint="curate build-index makes one")
    checked = [
        _look(PLAN, lambda: read_plan(index), f"{_COPY}; without it, build another index"),
        _look(LEDGER, lambda: read_ledger(index), REPAIR),
        _look(f"{MANIFEST}, {PARTS_TABLE}", lambda: _tables(index), _BUILD_AGAIN),
    ]
    if any(one.problem for one in (checked[0], checked[2])):
        return VerifyReport(index, tuple(checked))
    manifest, rows = read_manifest(index)
    with progress("verify", len(rows), "parts") as bar:
        for row in rows:
            checked += _part(index, row)
            bar.advance()
    if not any(one.problem for one in checked):
        parts = [Part(int(row["number"]), int(row["rows"]), part_directory(index, int(row["number"])),
                      int(manifest["dimension"])) for row in rows]  # fmt: skip
        checked += _caches(index, manifest, parts)
    return VerifyReport(index, tuple(checked))


def _tables(index: Path) -> None:
    manifest, _ = read_manifest(index)
    plan, _ = read_plan(index)
    if manifest.get("plan_fingerprint") != plan.fingerprint:
        raise DataError("they are not of the same index as plan.json")


def _look(name: str, read: Callable[[], Any], repair: str) -> Checked:
    try:
        read()
    except DataError as error:
        return Checked(name, error.message, error.hint if name == LEDGER else repair)
    return Checked(name)


def _part(index: Path, row: dict[str, Any]) -> Iterator[Checked]:
    name = f"{PARTS}/{row['name']}"
    folder = index / PARTS / row["name"]
    repair = f"delete {folder}, then {_BUILD_AGAIN}: what it held is embedded again, as a new part"
    try:
        part = finished_part(folder)
    except DataError as error:
        yield Checked(f"{name}/{DONE}", error.message, repair)
        return
    yield Checked(f"{name}/{DONE}", *_difference(part.checksum, row["checksum"], repair))
    for file, expected in sorted(part.done["checksums"].items()):
        try:
            found = sha256_file(folder / file)
        except OSError as error:
            yield Checked(f"{name}/{file}", error.strerror or str(error), repair)
        else:
            yield Checked(f"{name}/{file}", *_difference(found, expected, repair))


def _difference(found: str, expected: str, repair: str) -> tuple[str | None, str | None]:
    return (None, None) if found == expected else ("it does not have its checksum", repair)


def _caches(index: Path, manifest: dict[str, Any], parts: list[Part]) -> Iterator[Checked]:
    """A missing cache is no damage: searches do without."""
    if manifest.get(THRESHOLDS):
        path = index / WHITENING
        whole = path.is_file() and sha256_file(path) == manifest[THRESHOLDS].get("whitening")
        again = None if whole else f"run curate calibrate --index {index}"
        yield Checked(WHITENING, None if whole else "it is missing or does not have its checksum", again)
    yield from _views(index)
    sha256 = manifest["parts"]["sha256"]
    folder = generation(index, IDS, sha256)
    numbering = Numbering(parts)
    if folder.is_dir():
        cached, made = load_ids(index, sha256, numbering.total), sort_ids(parts, numbering)
        same = (
            cached is not None
            and np.array_equal(cached.ids, made.ids)
            and np.array_equal(cached.positions, made.positions)
        )
        problem = None if same else "it is not what the parts hold"
        yield Checked(
            f"{IDS}/{folder.name}", problem, None if same else f"delete {folder}, then {_BUILD_AGAIN}"
        )
    folder = generation(index, FAISS, sha256)
    if folder.is_dir():
        about = read_about(folder)
        problem = (
            "about.json is damaged, or index.faiss is missing"
            if about is None
            else faiss_damage(folder, about)
        )
        yield Checked(f"{FAISS}/{folder.name}", problem, problem and f"delete {folder}, then {_BUILD_AGAIN}")


def _views(index: Path) -> Iterator[Checked]:
    for path in stored_files(index / VIEWS_CACHE):
        name = path.relative_to(index).as_posix()
        repair = f"delete {path}: what it held is embedded again when it is needed"
        try:
            whole = is_whole(path)
        except FileNotFoundError:  # a running retrieve has removed it
            continue
        except OSError as error:
            yield Checked(name, error.strerror or str(error), repair)
        else:
            yield Checked(name) if whole else Checked(name, "it does not have its checksum", repair)
