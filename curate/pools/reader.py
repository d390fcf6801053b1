"""Going through a part: its items in a fixed order, and their bytes."""

import errno
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

from curate.foreign_json import stored_object
from curate.pools.columns import TableRow
from curate.pools.items import PlannedPart, PoolItem, Problem, Source
from curate.pools.metadata import LARGEST_SIDECAR, SIDECAR_SUFFIXES, parse_metadata
from curate.pools.regular import GONE, check_regular, check_size, read_regular
from curate.pools.remote import PoolPath, RangeReader, RemotePath, is_remote
from curate.pools.roots import Roots
from curate.pools.sidecar_table import SidecarTable
from curate.pools.tables import FileTables, table_items
from curate.pools.tar_images import image_members, scan_source, split_name
from transferset.errors import DataError, InterruptedRun, TransfersetError
from transferset.open_files import raise_if_too_many_files
from transferset.prompts import valid_text
from transferset.tars import Member, TarReader

_OPEN_TARS = 64
_NO_SIDECAR = {*GONE, errno.ENAMETOOLONG}


def _sample_key(stem: str) -> str:
    """webdataset's key: up to the first dot of the file name."""
    folder, slash, base = stem.rpartition("/")
    return folder + slash + base.partition(".")[0]


def _told_by(row: TableRow, item: PoolItem) -> PoolItem:
    """An item with what a table says of it too; what stands beside the image itself goes first."""
    extra = row.extra or item.extra
    if row.extra and item.extra:
        merged = {**(stored_object(row.extra) or {}), **(stored_object(item.extra) or {})}
        extra = json.dumps(merged, sort_keys=True, separators=(",", ":"))
    return replace(item, caption=item.caption or row.caption, url=item.url or row.url, extra=extra)


def _holds_something(folder: str) -> bool:
    """Whether a root is there at all: an empty one is a mount point without its disk. Of a remote one nobody
    knows: what can't be had from it stops the run."""
    if is_remote(folder):
        return False
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except OSError:
        return False


@dataclass
class PartReader:
    """Items and bytes of one part (context manager). `read` may be called by many threads, `items` by one.

    `problems` and `images` (per source, in the order of the part) fill while `items` runs.
    """

    part: PlannedPart
    roots: Roots
    problems: list[Problem] = field(default_factory=list)
    images: list[int] = field(default_factory=list)
    _tars: dict[Source, TarReader | RangeReader] = field(default_factory=dict)
    _tables: FileTables = field(default_factory=FileTables)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def items(self) -> Iterator[PoolItem]:
        """The part's items: source by source, in a tar in stored order."""
        for source in self.part.sources:
            count = 0
            for item in self._items(source):
                count += 1
                yield item
            self.images.append(count)

    def _items(self, source: Source) -> Iterator[PoolItem]:
        if source.is_tar:
            return self._tar_items(source)
        return self._table_items(source) if source.is_table else self._file_items(source)

    def _table_items(self, source: Source) -> Iterator[PoolItem]:
        path = self.roots.locate(source)
        try:
            yield from table_items(path, source)
        except DataError as error:
            self.problems.append(Problem("source", source, "", error.message))
        except OSError as error:
            if error.errno not in GONE or isinstance(path, RemotePath):
                raise self._unreachable(source, error) from error
            self.problems.append(Problem("source", source, "", f"cannot be read: {error.strerror}"))

    def read(self, item: PoolItem) -> bytes:
        """The encoded bytes of an item.

        Raises DataError (a reason for the error table) if this one can't be had, InterruptedRun if the pool
        itself is out of reach: a build stops then, and goes on when it is back.
        """
        check_size(item.size)
        if item.data is not None:
            return item.data
        path = self.roots.locate(item.source)
        try:
            if item.offset is None:
                return read_regular(path)
            return self._read_tar(item.source, path, item.offset, item.size)
        except OSError as error:
            raise self._unreadable(item, error) from error
        except DataError as error:
            if item.offset is None:
                raise
            cause = error.__cause__
            if isinstance(cause, OSError):
                raise self._unreadable(item, cause) from error
            raise DataError("the tar ended before the image did") from error

    def _unreadable(self, item: PoolItem, error: OSError) -> TransfersetError:
        if error.errno in GONE and _holds_something(self.roots.path(item.source.root)):
            return DataError(f"cannot be read: {error.strerror}")
        return self._unreachable(item.source, error)

    def _unreachable(self, source: Source, error: OSError) -> InterruptedRun:
        return InterruptedRun(
            f"{self.roots.locate(source)} cannot be read: {error.strerror or error}",
            hint="when the pool can be reached again, run the same command: it resumes where it stopped",
        )

    def _read_tar(self, source: Source, path: PoolPath, offset: int, size: int) -> bytes:
        reader = self._tars.get(source)
        if reader is None:
            reader = RangeReader(path, blocks=True) if isinstance(path, RemotePath) else TarReader(path)
            with self._lock:
                kept = source in self._tars or len(self._tars) >= _OPEN_TARS
                if not kept:
                    self._tars[source] = reader
            if kept:
                with reader:
                    return reader.read(offset, size)
        return reader.read(offset, size)

    def _tar_items(self, source: Source) -> Iterator[PoolItem]:
        path = self.roots.locate(source)
        scanned = scan_source(path)
        if scanned.error is not None:
            self.problems.append(Problem("source", source, "", scanned.error))
        beside = SidecarTable(path)
        sidecars: dict[tuple[str, str], Member] = {}
        for member in scanned.members:
            split = split_name(member.name)
            if split[1] in SIDECAR_SUFFIXES:
                sidecars[split] = member
        for member in image_members(scanned):
            stem, _ = split_name(member.name)
            found = [
                sidecars.get((stem, suffix)) or sidecars.get((_sample_key(stem), suffix))
                for suffix in SIDECAR_SUFFIXES
            ]
            key = valid_text(stem)
            texts = [self._sidecar(source, path, key, side) for side in found]
            item = self._item(key, source, member.offset, member.size, texts[0], texts[1])
            yield item if texts[0] is not None else self._from_table(beside, item)

    def _from_table(self, table: SidecarTable, item: PoolItem) -> PoolItem:
        """The item with what the table beside its tar says, if there is one."""
        try:
            row = table.find(item.key) or table.find(_sample_key(item.key))
        except DataError as error:
            self._stop_if_failed(item.source, error, _NO_SIDECAR)
            self.problems.append(Problem("metadata", item.source, "", error.message))
            return item
        return item if row is None else _told_by(row, item)

    def _sidecar(self, source: Source, path: PoolPath, key: str, member: Member | None) -> bytes | None:
        if member is None:
            return None
        if member.size > LARGEST_SIDECAR:
            self.problems.append(Problem("metadata", source, key, f"larger than {LARGEST_SIDECAR} bytes"))
            return None
        try:
            return self._read_tar(source, path, member.offset, member.size)
        except (DataError, OSError) as error:
            self._stop_if_failed(source, error, set())
            raise

    def _stop_if_failed(self, source: Source, error: DataError | OSError, harmless: set[int]) -> None:
        """What may be read next time must not be noted as missing: raises InterruptedRun unless it is damage,
        or an error of the system that is `harmless`."""
        cause = error if isinstance(error, OSError) else error.__cause__
        if isinstance(cause, OSError) and not (cause.errno is None and isinstance(error, DataError)):
            if cause.errno in harmless:
                return
            raise_if_too_many_files(cause)
            raise self._unreachable(source, cause) from error

    def _file_items(self, source: Source) -> Iterator[PoolItem]:
        stem, _ = split_name(source.path)
        texts: list[bytes | None] = []
        for suffix in SIDECAR_SUFFIXES:
            try:
                path = self.roots.join(source.root, stem + suffix)
                check_regular(path)
                with path.open("rb") as file:
                    texts.append(file.read(LARGEST_SIDECAR))
            except DataError as error:
                self.problems.append(Problem("metadata", source, stem, error.message))
                texts.append(None)
            except OSError as error:
                remote = is_remote(self.roots.path(source.root))
                self._stop_if_failed(source, error, {errno.ENOENT} if remote else _NO_SIDECAR)
                texts.append(None)
        item = self._item(stem, source, None, source.size, texts[0], texts[1])
        try:
            row = self._tables.find(source)
        except (DataError, OSError) as error:
            self._stop_if_failed(source, error, _NO_SIDECAR)
            self.problems.append(Problem("metadata", source, stem, f"the table that names it: {error}"))
            row = None
        yield item if row is None else _told_by(row, replace(item, key=row.key or item.key))

    def _item(
        self,
        key: str,
        source: Source,
        offset: int | None,
        size: int,
        json_data: bytes | None,
        text: bytes | None,
    ) -> PoolItem:
        metadata = parse_metadata(json_data, text)
        if metadata.problem:
            self.problems.append(Problem("metadata", source, key, metadata.problem))
        return PoolItem(key, source, offset, size, metadata.caption, metadata.url, metadata.extra)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for reader in self._tars.values():
            reader.close()
        self._tars.clear()
