"""Files on other machines (s3://, https://, …), through fsspec: listed, and read by ranges.

Whatever fails is tried again with growing pauses. A file that then still can't be had stops the run
(`InterruptedRun`), which goes on where it was when the same command is given again.
"""

import asyncio
import errno
import io
import os
import posixpath
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, Self, TypeVar, cast

from curate.pools.remote_stamp import stamp
from transferset.errors import InterruptedRun, UsageError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

T = TypeVar("T")
BLOCK_BYTES = 4 << 20
BLOCKS = 8
"""Blocks of a file that are kept while it is read."""
PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds before another try."""
_CONNECT_SECONDS, _READ_SECONDS = 30, 60
_URL = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]*://")
_AGAIN = {408, 425, 429}
_HINT = "when it can be reached again, run the same command: it resumes where it stopped"


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a URL of another file system than the local one."""
    return _URL.match(os.fspath(path)) is not None


def normal(url: str) -> str:
    """A URL without a slash at its end; the same place is always written in the same way."""
    protocol, _, rest = url.partition("://")
    if protocol.lower() == "memory":
        rest = "/" + rest.lstrip("/")
    return f"{protocol.lower()}://{rest.rstrip('/')}"


def pool_path(path: str) -> "PoolPath":
    """A file of a pool, here or elsewhere, by its absolute path or URL."""
    return RemotePath(path) if is_remote(path) else Path(path)


def filesystem(url: str) -> "tuple[AbstractFileSystem, str]":
    """fsspec's file system for a URL, and the URL's path in it. UsageError, with what to install, where there
    is none."""
    import fsspec
    from fsspec.registry import known_implementations

    protocol = url.partition("://")[0]
    options: dict[str, Any] = {}
    if protocol in ("http", "https"):
        options["client_kwargs"] = {"trust_env": True}
    try:
        if options:
            from aiohttp import ClientTimeout

            limits = ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS)
            options["client_kwargs"]["timeout"] = limits
        found: tuple[AbstractFileSystem, str] = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        wanted = known_implementations.get(protocol, {}).get("err") or str(error)
        package = getattr(error.__cause__ or error, "name", None) or protocol
        raise UsageError(
            f"{protocol}:// needs a package that is not installed: {wanted}", hint=f"pip install {package}"
        ) from error
    except ValueError as error:
        raise UsageError(
            f"{url}: {error}",
            hint="--pool takes local paths, and URLs that fsspec knows: s3://, gs://, https://, …",
        ) from error
    return found


class Status(NamedTuple):
    """Like `os.stat_result`. `st_mtime_ns` is the time, or a number made of the version, that the server
    tells."""

    st_size: int
    st_mtime_ns: int


@dataclass(frozen=True)
class RemotePath:
    """A remote file, with what of `pathlib.Path` a pool needs."""

    url: str

    def __str__(self) -> str:
        return self.url

    def __fspath__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        return posixpath.basename(self.url)

    @property
    def stem(self) -> str:
        return posixpath.splitext(self.name)[0]

    @property
    def suffix(self) -> str:
        return posixpath.splitext(self.name)[1]

    def with_suffix(self, suffix: str) -> "RemotePath":
        return RemotePath(self.url[: len(self.url) - len(self.suffix)] + suffix)

    def stat(self) -> Status:
        """Size and stamp. FileNotFoundError, PermissionError, InterruptedRun."""
        fs, path = filesystem(self.url)
        info = attempt(self.url, lambda: fs.info(path))
        if info.get("size") is None or info.get("partial") is False:
            raise UsageError(
                f"{self.url}: the server does not report its size, or does not answer range requests",
                hint="copy the pool to a disk or to a server that does",
            )
        return Status(int(info["size"]), stamp(info))

    def open(self, mode: str = "rb") -> IO[bytes]:
        """The file, for reading at any place. Errors as of `stat`; while reading InterruptedRun only."""
        if mode != "rb":
            raise ValueError(f"remote files can only be read, not opened with {mode!r}")
        return cast(IO[bytes], _RangeFile(RangeReader(self, blocks=True)))

    def read_bytes(self) -> bytes:
        """The whole content. Errors as of `stat`."""
        fs, path = filesystem(self.url)
        return attempt(self.url, lambda: cast(bytes, fs.cat_file(path)))


PoolPath = Path | RemotePath


class RangeReader:
    """Reads byte ranges of one remote file, as `TarReader` does of a local one; threads may share it.

    With `blocks` whole blocks are asked for, and some of them kept: for reading in order. Else each range by
    itself.
    """

    def __init__(self, path: RemotePath, blocks: bool) -> None:
        from fsspec.caching import BlockCache

        self.path = path
        self.size = path.stat().st_size
        self._fs, self._name = filesystem(path.url)
        self._lock = threading.Lock()
        self._cache = BlockCache(BLOCK_BYTES, self._fetch, self.size, BLOCKS) if blocks else None

    def read(self, offset: int, size: int) -> bytes:
        """The `size` bytes at `offset`, fewer at the file's end."""
        end = min(offset + size, self.size)
        if offset >= end:
            return b""
        if self._cache is None:
            return self._fetch(offset, end)
        with self._lock:
            return bytes(self._cache._fetch(offset, end))

    def _fetch(self, start: int, end: int) -> bytes:
        end = min(end, self.size)
        try:
            data = attempt(
                self.path.url, lambda: cast(bytes, self._fs.cat_file(self._name, start=start, end=end))
            )
        except OSError as error:
            raise InterruptedRun(f"{self.path} cannot be read any more: {error.strerror}", _HINT) from error
        if len(data) > end - start:
            raise UsageError(
                f"{self.path}: the server does not answer range requests",
                hint="copy the pool to a disk or to a server that does",
            )
        if len(data) < end - start:
            raise InterruptedRun(f"{self.path} ended within bytes {start} to {end}: it was replaced", _HINT)
        return data

    def close(self) -> None:
        """Let go of what is kept."""
        self._cache = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _RangeFile(io.RawIOBase):
    """A file object over a RangeReader."""

    def __init__(self, reader: RangeReader) -> None:
        self._reader = reader
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._reader.size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self._reader.read(self._place, len(view))
        view[: len(data)] = data
        self._place += len(data)
        return len(data)


def attempt(url: str, action: Callable[[], T]) -> T:
    """`action()`, tried again where the network or the server fails.

    Raises FileNotFoundError, PermissionError: what the server says. InterruptedRun: all tries failed.
    """
    problem: BaseException
    for pause in (*PAUSES, None):
        try:
            return action()
        except _failures() as error:
            problem = error if not isinstance(error, FileNotFoundError) else error.__cause__ or error
            status = getattr(problem, "status", None)
            if isinstance(problem, FileNotFoundError) or status in (404, 410):
                raise FileNotFoundError(errno.ENOENT, "no such file", url) from error
            if isinstance(problem, PermissionError) or status in (401, 403):
                raise PermissionError(errno.EACCES, "the server refuses it", url) from error
            if pause is None or (status is not None and 400 <= status < 500 and status not in _AGAIN):
                break
            time.sleep(pause)
    raise InterruptedRun(
        f"{url} cannot be read: {str(problem) or type(problem).__name__}", _HINT
    ) from problem


def _failures() -> tuple[type[BaseException], ...]:
    """What file systems raise when something fails; the packages of those that were not loaded don't
    matter."""
    from fsspec.exceptions import FSTimeoutError

    found: list[type[BaseException]] = [OSError, asyncio.TimeoutError, FSTimeoutError]
    for module, name in (
        ("aiohttp", "ClientError"),
        ("botocore.exceptions", "BotoCoreError"),
        ("gcsfs.retry", "HttpError"),
    ):
        kind = getattr(sys.modules.get(module), name, None)
        if kind is not None:
            found.append(kind)
    return tuple(found)
