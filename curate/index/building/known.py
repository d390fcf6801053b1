"""What the parts already hold, against what lies in the pools now."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from curate.index.building.ready_part import scaled
from curate.index.layout import ERRORS
from curate.index.manifest import FinishedPart
from curate.index.part import ItemRow
from curate.pools import Roots, Source
from curate.pools.embeddings import read_embedding
from curate.pools.listing import expand
from curate.pools.remote import PoolPath, RangeReader, RemotePath, is_remote, pool_path
from curate.pools.roots import absolute
from curate.pools.row_groups import RowGroups
from curate.pools.tables import read_table_bytes
from transferset.copies import item_id
from transferset.errors import DataError
from transferset.tars import TarReader

_SAMPLE = 16
_MOVED_SAMPLE = 100


class Version(NamedTuple):
    """A tar or file as a part holds it; `item_id` of a loose image that could be read. `first`: the first row
    of a piece of ready embeddings."""

    size: int
    mtime_ns: int
    part: int
    item_id: bytes | None
    first: int = 0


@dataclass
class Changes:
    """`new`: sources to index, changed ones included; `changed`, `gone`: paths to report."""

    new: list[Source] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


@dataclass
class Gone:
    """`out_of_reach`: roots of which nothing is found; `sources` (root number and path) of others by part."""

    out_of_reach: list[str] = field(default_factory=list)
    sources: dict[int, set[tuple[int, str]]] = field(default_factory=dict)


class Known:
    """All sources of the finished parts, by root number and path; a changed source has several versions."""

    def __init__(self, parts: Sequence[FinishedPart]) -> None:
        self._parts = {part.number: part for part in parts}
        self.versions: dict[tuple[int, str], list[Version]] = {}
        for part in parts:
            for source in part.done["sources"]:
                first = source.get("first", 0)
                version = Version(source["size"], source["mtime_ns"], part.number, None, first)
                self._add(source["root"], source["path"], version)
            if not part.done["sources"]:
                self._add_files(part)

    def _add(self, root: int, path: str, version: Version) -> None:
        self.versions.setdefault((root, path), []).append(version)

    def _add_files(self, part: FinishedPart) -> None:
        columns = ["root", "path", "size", "mtime_ns", "item_id"]
        opened = part.open()
        for row in zip(*(column.to_pylist() for column in opened.table(columns).columns), strict=True):
            self._add(row[0], row[1], Version(row[2], row[3], part.number, row[4]))
        errors = pq.read_table(part.directory / ERRORS, columns=["kind", *columns[:-1]])
        for kind, root, path, size, mtime_ns in zip(
            *(column.to_pylist() for column in errors.columns), strict=True
        ):
            if kind in ("image", "forgotten") and path is not None:
                self._add(root, path, Version(size, mtime_ns, part.number, None))

    def compare(self, sources: Iterable[Source], roots: Roots, pools: Iterable[Path | str]) -> Changes:
        """What is new, changed and gone of `pools`, whose present content is `sources`."""
        by_path = {os.fspath(roots.join(*key)): key for key in self.versions}
        changes = Changes()
        seen = set()
        for source in sources:
            path = os.fspath(roots.locate(source))
            key = by_path.get(path)
            if key is None:
                changes.new.append(source)
                continue
            seen.add(path)
            versions = [version for version in self.versions[key] if version.first == source.first]
            if not self._is_held(source, versions, path):
                changes.new.append(source)
                if versions and changes.changed[-1:] != [path]:  # pieces of a file follow each other
                    changes.changed.append(path)
        bases = [absolute(pool) for pool in pools]
        for path in by_path:
            if path not in seen and _is_below(path, bases) and not os.path.lexists(path):
                changes.gone.append(path)
        return changes

    def gone(self, roots: Roots) -> "Gone":
        """What the parts hold of sources that are no longer there, or are others now. A root of which no
        file at all is found has moved, or its disk is missing: nothing of it counts as gone."""
        lost: dict[int, list[tuple[int, tuple[int, str]]]] = {}
        reached = set()
        for (root, path), versions in self.versions.items():
            place = roots.join(root, path)
            missing = lost.setdefault(root, [])
            for version in versions:
                if self._is_there(Source(root, path, version.size, version.mtime_ns), version, place):
                    reached.add(root)
                else:
                    missing.append((version.part, (root, path)))
        found = Gone([roots.path(root) for root in sorted(lost) if root not in reached])
        for root in reached:
            for part, source in lost[root]:
                found.sources.setdefault(part, set()).add(source)
        return found

    def _is_there(self, source: Source, version: Version, place: PoolPath) -> bool:
        try:
            now = place.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
        if (now.st_size, now.st_mtime_ns) == version[:2]:
            return True
        return now.st_size == version.size and self._has_same_bytes(source, version, os.fspath(place))

    def _is_held(self, source: Source, versions: Sequence[Version], path: str) -> bool:
        """Whether a part holds this state of the source: same size and time, or same size and bytes."""
        if any((source.size, source.mtime_ns) == version[:2] for version in versions):
            return True
        alike = [version for version in versions if version.size == source.size]
        return any(self._has_same_bytes(source, version, path) for version in alike)

    def _has_same_bytes(self, source: Source, version: Version, path: str) -> bool:
        place = pool_path(path)
        try:
            if not source.holds_many:
                return version.item_id is not None and item_id(place.read_bytes()) == version.item_id
            items = self._sample_of(version.part, source)
            if source.is_embeddings:
                return bool(items) and all(self._has_same_row(item, Path(path)) for item in items)
            if source.is_table:
                groups = RowGroups()
                return bool(items) and all(
                    item_id(read_table_bytes(groups, place, item.offset or 0)) == item.item_id
                    for item in items
                )
            with (
                RangeReader(place, blocks=False) if isinstance(place, RemotePath) else TarReader(place)
            ) as reader:
                return bool(items) and all(
                    item_id(reader.read(item.offset or 0, item.size)) == item.item_id for item in items
                )
        except (OSError, DataError):
            return False

    def _has_same_row(self, item: ItemRow, array: Path) -> bool:
        """Whether an embedding file holds the embedding of an item where it was."""
        stored = self._parts[item.part].open().embeddings[item.row]
        return bool((scaled(read_embedding(array, item.offset or 0)[None])[0] == stored).all())

    def _sample_of(self, part: int, source: Source) -> list[ItemRow]:
        """Some items of a tar, a table or an embedding file, evenly spread."""
        opened = self._parts[part].open()
        held = opened.table(["root", "source"])
        places = zip(held.column("root").to_pylist(), held.column("source").to_pylist(), strict=True)
        rows = [row for row, place in enumerate(places) if place == (source.root, source.path)]
        step = max(1, len(rows) // _SAMPLE)
        return opened.read(np.array(rows[::step], np.int64))

    def lies_at(self, root: int, folder: str) -> bool:
        """Whether the sources of a root are found, with their sizes, in `folder`."""
        held = [(path, versions) for (number, path), versions in self.versions.items() if number == root]
        step = max(1, len(held) // _MOVED_SAMPLE)
        sample = held[::step]
        return bool(sample) and all(
            _size(Path(folder, path)) in {version.size for version in versions} for path, versions in sample
        )


def follow_moved(roots: Roots, known: Known, pools: Iterable[Path | str]) -> list[str]:
    """Roots that are no longer where they were, but whose files lie in one of `pools`: note the new place.

    Returns a sentence for each.
    """
    notes = []
    folders = [expand(pool)[0] for pool in pools if not is_remote(pool)]
    taken = {roots.path(number) for number in range(len(roots))}
    for number in range(len(roots)):
        old = roots.path(number)
        if is_remote(old) or Path(old).is_dir():
            continue
        for folder in folders:
            if folder not in taken and known.lies_at(number, folder):
                roots.move(number, folder)
                taken.add(folder)
                notes.append(f"the pool moved from {old} to {folder}: none of its images are embedded again")
                break
    return notes


def _is_below(path: str, bases: Sequence[str]) -> bool:
    return any(path == base or path.startswith(base.rstrip(os.sep) + os.sep) for base in bases)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
