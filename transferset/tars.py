"""Tars by offset: where each member's bytes are, which members make a sample, and reads that need no tar
library."""

import errno
import os
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

from transferset.errors import DataError
from transferset.open_files import raise_if_too_many_files

_BLOCK = 512
_LARGEST_HEADER = 16 << 20
_NO_PLACE = {None, errno.EINVAL, errno.EOVERFLOW}
"""Of an OSError that the tar's own numbers are to blame for: places that no file has."""


@dataclass(frozen=True)
class Member:
    """One file in a tar: its name, and where its data starts in the tar file and how many bytes it has."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class Sample:
    """The members of a tar that share a key; `members` maps the extension (lower case) to the member."""

    key: str
    members: dict[str, Member]


@dataclass(frozen=True)
class TarScan:
    """Every whole member of a tar in stored order, and what is wrong with its end (None: nothing)."""

    members: tuple[Member, ...]
    error: str | None


def scan(path: Path) -> TarScan:
    """List the regular files of the uncompressed tar `path`; a cut-off or damaged tar gives what is whole
    before.

    Raises DataError if the file is missing or is not an uncompressed tar at all.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return scan_file(file, str(path))
    except OSError as problem:
        raise_if_too_many_files(problem)
        raise DataError(f"{path} cannot be read: {problem.strerror or problem}") from problem


def scan_file(file: IO[bytes], name: str) -> TarScan:
    """`scan` of a tar that is open; `name` is for errors. OSError where the disk fails, or
    whatever else it is read from."""
    members: list[Member] = []
    error = None
    end = 0
    try:
        length = file.seek(0, os.SEEK_END)
        file.seek(0)
        with tarfile.open(fileobj=cast(IO[bytes], _Headers(file)), mode="r:") as tar:
            try:
                for info in tar:
                    tar.members = []  # type: ignore[attr-defined]  # tarfile would keep every header in memory
                    if info.size < 0 or info.offset < end:
                        error = f"damaged at byte {info.offset}: the header of {info.name!r}"
                        break
                    end = info.offset_data
                    if not info.isreg() or info.issparse():
                        continue
                    if info.offset_data + info.size > length:
                        error = f"cut off within {info.name!r}, at byte {length}"
                        break
                    members.append(Member(info.name, info.offset_data, info.size))
            except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as problem:
                if isinstance(problem, OSError) and problem.errno not in _NO_PLACE:
                    raise
                error = f"damaged or cut off near byte {tar.offset}: {problem}"
            error = error or _wrong_end(file, tar.offset, length)
    except tarfile.TarError as problem:
        raise DataError(
            f"{name} is not a readable tar: {problem}",
            hint="a compressed tar has to be unpacked first (gunzip)",
        ) from problem
    return TarScan(tuple(members), error)


class _Headers:
    """A tar as tarfile reads it: headers only, of which one that claims to have gigabytes is damaged."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if size > _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)


def _wrong_end(file: IO[bytes], offset: int, length: int) -> str | None:
    """tarfile ends silently at a damaged header; a whole tar ends with a block of zeros there."""
    file.seek(offset)
    block = file.read(_BLOCK)
    if len(block) == _BLOCK and not block.strip(b"\0"):
        return None
    if not block:
        return f"ends at byte {length} without an end mark: it may have been cut off"
    return f"damaged or cut off at byte {offset} of {length}"


def group_samples(members: Iterable[Member]) -> list[Sample]:
    """Group members into samples by webdataset's rule: the key is the path up to the first dot of the file
    name, the rest, in lower case, the extension.

    Members of a key need not stand together; samples are in the order of their first member. Of two members
    with the same name the later counts, as when a tar is unpacked. Names without a key or an extension, and
    webdataset's own `__…__` members, are left out.
    """
    samples: dict[str, dict[str, Member]] = {}
    for member in members:
        folder, slash, base = member.name.rpartition("/")
        stem, dot, extension = base.partition(".")
        if not stem or not dot or not extension or (stem.startswith("__") and base.endswith("__")):
            continue
        samples.setdefault(folder + slash + stem, {})[extension.lower()] = member
    return [Sample(key, found) for key, found in samples.items()]


class TarReader:
    """Reads byte ranges of one tar (context manager). Threads may share it: every read is one `pread`."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            self._handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise_if_too_many_files(error)
            raise DataError(f"{path} cannot be read: {error.strerror or error}") from error

    def read(self, offset: int, size: int) -> bytes:
        """The `size` bytes at `offset`; DataError if the file ends before."""
        try:
            data = os.pread(self._handle, size, offset)
            while 0 < len(data) < size and (
                more := os.pread(self._handle, size - len(data), offset + len(data))
            ):
                data += more
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror or error}") from error
        if len(data) != size:
            raise DataError(
                f"{self.path} ends within the {size} bytes at {offset}: it is cut off or was replaced"
            )
        return data

    def close(self) -> None:
        """Close the file; reading afterwards is an error."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
