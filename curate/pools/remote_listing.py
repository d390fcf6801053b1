"""What lies in a remote pool: a folder, a file, a glob, or a range such as `shard-{00000..00009}.tar`."""

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass

from curate.pools.remote import RemotePath, Status, attempt, filesystem, normal
from curate.pools.remote_stamp import stamp
from curate.pools.roots import written_out
from transferset.errors import UsageError
from transferset.images import IMAGE_SUFFIXES
from transferset.parallel import ordered_map

_ASK_TOGETHER = 16
_FILES = (".tar", ".parquet", *sorted(IMAGE_SUFFIXES))


@dataclass(frozen=True)
class RemoteFile:
    """A file below the folder `base`, which becomes (or lies below) a root."""

    base: str
    url: str
    status: Status

    @property
    def relative(self) -> str:
        return self.url[len(self.base) + 1 :]


def list_remote(pool: str) -> list[RemoteFile]:
    """The files of one `--pool` that is a URL, without hidden ones, by name.

    UsageError if there is none, or where fsspec can't do it. InterruptedRun if it can't be reached.
    """
    found = {file.url: file for url in written_out(pool) for file in _files(normal(url), pool)}
    return sorted(found.values(), key=lambda file: file.url)


def _files(url: str, pool: str) -> Iterator[RemoteFile]:
    fs, path = filesystem(url)
    fs.invalidate_cache()  # of an earlier build in this process
    base = url
    try:
        if _has_magic(url):
            base = url[: re.search(r"[*\[?]", url).start()].rpartition("/")[0]  # type: ignore[union-attr]
            infos = attempt(url, lambda: fs.glob(path, detail=True))
        elif not url.lower().endswith(_FILES) and attempt(url, lambda: fs.isdir(path)):
            infos = attempt(url, lambda: fs.find(path, detail=True))
        else:
            base = posixpath.dirname(url)
            infos = {path: attempt(url, lambda: fs.info(path))}
    except FileNotFoundError as error:
        raise UsageError(f"--pool {pool}: {url} does not exist") from error
    except PermissionError as error:
        raise UsageError(f"--pool {pool}: the server refuses {url}") from error
    except NotImplementedError as error:
        raise UsageError(
            f"--pool {pool}: this file system can't list its files",
            hint="name them: shard-{00000..00009}.tar",
        ) from error
    if not infos:
        raise UsageError(f"--pool {pool} holds, or matches, nothing")
    names = [
        (normal(fs.unstrip_protocol(name)), info)
        for name, info in infos.items()
        if info.get("type", "file") == "file"
    ]
    wanted = [(name, info) for name, info in names if not _is_hidden(name, base)]
    yield from ordered_map(lambda one: _file(base, *one), wanted, _ASK_TOGETHER, 4 * _ASK_TOGETHER)


def _file(base: str, url: str, info: dict[str, object]) -> RemoteFile:
    """A file; one whose size the listing didn't tell is asked for it, if it is of use."""
    size = info.get("size")
    if isinstance(size, int) and info.get("partial") is not False:
        return RemoteFile(base, url, Status(size, stamp(info)))
    if not url.lower().endswith(_FILES):
        return RemoteFile(base, url, Status(0, 0))
    return RemoteFile(base, url, RemotePath(url).stat())


def _has_magic(url: str) -> bool:
    """`?` is a wild card too, except on the web."""
    return re.search(r"[*\[]" if url.startswith("http") else r"[*\[?]", url) is not None


def _is_hidden(url: str, base: str) -> bool:
    return any(part.startswith(".") for part in url[len(base) :].split("/"))
