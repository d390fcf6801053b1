"""What lies in the pools: tars and loose images, in an order that depends on nothing but their names."""

import errno
import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from curate.pools.items import PoolListing, Source
from curate.pools.roots import Roots, absolute
from transferset.errors import UsageError
from transferset.images import IMAGE_SUFFIXES

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")


def list_pools(pools: Sequence[Path], roots: Roots) -> PoolListing:
    """Look through `pools` (folders with tars and loose images in any depth, tars, images, globs).

    Folders that no root covers become roots. The index's own folder, hidden files and folders are passed
    over.
    Order: tars, then loose files; in each by root and by the bytes of the path. UsageError where a pool does
        not exist.
    """
    listing = PoolListing()
    found: dict[str, Source] = {}
    for pool in pools:
        base, paths = expand(pool)
        number, below = roots.place(base)
        for path in paths:
            _look(path, base, number, below, roots, found, listing)
    listing.sources = sorted(found.values(), key=_order)
    return listing


def _order(source: Source) -> tuple[bool, int, bytes]:
    return (not source.is_tar, source.root, source.path.encode("utf-8"))


def expand(pool: Path) -> tuple[str, list[str]]:
    """The folder that becomes (or lies below) a root, and the paths to look at, of one `--pool`."""
    path = absolute(pool)
    if Path(path).is_dir():
        return path, [path]
    if Path(path).exists():
        return str(Path(path).parent), [path]
    if not glob.has_magic(path):
        raise UsageError(f"--pool {pool} does not exist")
    base = path
    while glob.has_magic(base):
        base = str(Path(base).parent)
    matches = sorted(glob.glob(path, recursive=True), key=os.fsencode)  # noqa: PTH207
    if not matches:
        raise UsageError(
            f"--pool {pool} matches nothing", hint=f"look into {base}, and quote the pattern for the shell"
        )
    return base, matches


def _look(
    path: str,
    base: str,
    number: int,
    below: str,
    roots: Roots,
    found: dict[str, Source],
    listing: PoolListing,
) -> None:
    own = os.path.realpath(roots.index)
    files = _walk(path, own, listing, set()) if Path(path).is_dir() else iter([path])
    for file in files:
        if file in found:
            continue
        suffix = Path(file).suffix.lower()
        if file.lower().endswith(_COMPRESSED):
            listing.skipped.append((file, "compressed archive: unpack it"))
        elif suffix == ".tar" or suffix in IMAGE_SUFFIXES:
            try:
                status = Path(file).stat()
                relative = Path(below, os.path.relpath(file, base)).as_posix()
                relative.encode("utf-8")
            except OSError as error:
                listing.skipped.append((file, f"cannot be read: {error.strerror}"))
            except UnicodeEncodeError:
                listing.skipped.append((file, "the name is not UTF-8"))
            else:
                if not os.access(file, os.R_OK):  # as an error it would not be tried again
                    listing.skipped.append((file, f"cannot be read: {os.strerror(errno.EACCES)}"))
                    continue
                found[file] = Source(number, relative, status.st_size, status.st_mtime_ns)
        elif file == path:
            listing.skipped.append((file, "neither a tar nor an image"))


def _walk(folder: str, own: str, listing: PoolListing, above: set[tuple[int, int]]) -> Iterator[str]:
    """The regular files of a folder in any depth; links are followed, but never into a folder that we are
    in."""
    try:
        status = Path(folder).stat()
        entries = sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        listing.skipped.append((folder, f"cannot be read: {error.strerror}"))
        return
    identity = (status.st_dev, status.st_ino)
    if identity in above or os.path.realpath(folder) == own:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(entry.path, own, listing, above | {identity})
        elif entry.is_file() or entry.is_symlink():
            yield entry.path
