"""What lies in the pools: tars, ready embeddings, loose images, in an order that depends on nothing but their
names."""

import errno
import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from curate.pools.embeddings import PIECE_ROWS, find_embeddings, holds_embeddings
from curate.pools.items import PoolListing, Source
from curate.pools.roots import Roots, absolute
from transferset.errors import UsageError
from transferset.images import IMAGE_SUFFIXES

_MADE_OF = {"bytes": "their bytes", "url": "their URLs", "path": "their paths"}
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")


def list_pools(pools: Sequence[Path], roots: Roots) -> PoolListing:
    """Look through `pools` (folders with tars and loose images in any depth, tars, images, folders of ready
    embeddings, globs of these).

    Folders that no root covers become roots. The index's own folder, hidden files and folders are passed
    over.
    Order: tars, then loose files; in each by root and by the bytes of the path. UsageError where a pool does
        not exist, or where one has images and another one has not.
    """
    listing = PoolListing()
    found: dict[str, Source] = {}
    kinds: dict[str, Path] = {}
    for pool in pools:
        base, paths = expand(pool)
        number, below = roots.place(base)
        for path in paths:
            if holds_embeddings(path):
                kind = _look_at_embeddings(Path(path), base, (number, below), found, listing)
            else:
                kind = "bytes"
                _look(path, base, number, below, roots, found, listing)
            if kind is not None:
                kinds.setdefault(kind, Path(path))
    if len(kinds) > 1:
        raise UsageError(_mixture(kinds), hint="build an index of each")
    listing.id_kind = next(iter(kinds), "url")
    listing.sources = sorted(found.values(), key=_order)
    return listing


def _order(source: Source) -> tuple[bool, int, bytes, int]:
    return (not source.holds_many, source.root, source.path.encode("utf-8"), source.first)


def _mixture(kinds: dict[str, Path]) -> str:
    told = "; ".join(f"{path} by {_MADE_OF[kind]}" for kind, path in sorted(kinds.items()))
    return f"one index can't hold pools whose images are named differently: {told}"


def _look_at_embeddings(
    folder: Path, base: str, place: tuple[int, str], found: dict[str, Source], listing: PoolListing
) -> str | None:
    """List the embedding files of a folder, cut into pieces; returns how its items are named."""
    files = find_embeddings(folder)
    listing.skipped.extend(files.skipped)
    if files.headers and files.id_kind is None:
        raise UsageError(
            f"the metadata of {folder} has no column url and no column image_path",
            hint="items of ready embeddings are named by one of the two",
        )
    for number, (array, table) in files.pairs.items():
        try:
            status = array.stat()
            newest = max(status.st_mtime_ns, table.stat().st_mtime_ns)
            relative = Path(place[1], os.path.relpath(array, base)).as_posix()
            relative.encode("utf-8")
        except OSError as error:
            listing.skipped.append((str(array), f"cannot be read: {error.strerror}"))
            continue
        header = files.headers.get(number)
        rows = header.rows if header is not None else 0
        if header is not None:
            listing.dimensions.setdefault(header.dimension, str(array))
        for first in range(0, max(rows, 1), PIECE_ROWS):
            count = min(PIECE_ROWS, rows - first)
            found[f"{array}:{first}"] = Source(place[0], relative, status.st_size, newest, first, count)
    return files.id_kind


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
