"""What lies in the pools: tars, tables, ready embeddings, loose images, in an order that depends on nothing
but their names."""

import errno
import glob
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from curate.pools.embeddings import EMBEDDINGS_FOLDER, PIECE_ROWS, find_embeddings, holds_embeddings
from curate.pools.items import PoolListing, Source
from curate.pools.regular import check_regular
from curate.pools.remote import RemotePath, is_remote
from curate.pools.remote_listing import list_remote
from curate.pools.roots import Roots, absolute, joined
from curate.pools.sidecar_table import is_sidecar
from curate.pools.tables import TableKind, kind_of, table_paths
from curate.pools.walk import walk
from transferset.errors import DataError, UsageError
from transferset.images import IMAGE_SUFFIXES

MADE_OF = {"bytes": "their bytes", "url": "their URLs", "path": "their paths"}
"""What item ids of a kind are made of."""
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")
_TABLE = ".parquet"


def list_pools(pools: Sequence[Path | str], roots: Roots) -> PoolListing:
    """Look through `pools` (folders with tars, tables and loose images in any depth, such files, folders of
    ready embeddings, globs of these).

    Folders that no root covers become roots. The index's own folder, hidden files and folders are passed
    over, and so are transfer sets below a pool, which hold images of it again.
    Order: tars and tables, then loose files; in each by root and by the bytes of the path. UsageError where a
        pool does not exist, or where one has images and another one has not.
    """
    look = _Look(roots)
    kinds: dict[str, object] = {}
    for pool in pools:
        if is_remote(pool):
            kinds.setdefault("bytes", pool)
            look.at_remote(str(pool))
            continue
        base, paths = expand(pool)
        place = _Place(base, *roots.place(base))
        for path in paths:
            if holds_embeddings(path):
                kind = look.at_embeddings(Path(path), place)
            else:
                kind = "bytes"
                look.at_images(path, place)
            if kind is not None:
                kinds.setdefault(kind, path)
    if len(kinds) > 1:
        raise UsageError(_mixture(kinds), hint="build an index of each")
    look.at_paths_in_tables()
    listing = look.listing
    listing.id_kind = next(iter(kinds), "url")
    listing.sources = sorted(look.found.values(), key=_order)
    return listing


def _order(source: Source) -> tuple[bool, int, bytes, int]:
    return (not source.holds_many, source.root, source.path.encode("utf-8"), source.first)


def _mixture(kinds: dict[str, object]) -> str:
    told = "; ".join(f"{path} by {MADE_OF[kind]}" for kind, path in sorted(kinds.items()))
    return f"one index can't hold pools whose images are named differently: {told}"


def expand(pool: Path | str) -> tuple[str, list[str]]:
    """The folder that becomes (or lies below) a root, and the paths to look at, of one `--pool`."""
    path = absolute(pool)
    if is_remote(path):
        return path, [path]
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


@dataclass(frozen=True)
class _Place:
    """A folder that is looked into: root number `root`, or the folder `below` it."""

    base: str
    root: int
    below: str

    def relative(self, file: str | Path) -> str:
        """A file's path below the root."""
        return Path(self.below, os.path.relpath(file, self.base)).as_posix()


@dataclass
class _Look:
    """One look through the pools; `found` are the sources by absolute path (and first row)."""

    roots: Roots
    listing: PoolListing = field(default_factory=PoolListing)
    found: dict[str, Source] = field(default_factory=dict)
    _tables: dict[Path, _Place] = field(default_factory=dict)

    def at_images(self, path: str, place: _Place) -> None:
        """List a folder, in any depth, or one file. Tables with paths are remembered."""
        own = os.path.realpath(self.roots.index)
        files = walk(path, own, self.listing) if Path(path).is_dir() else iter([path])
        for file in files:
            suffix = Path(file).suffix.lower()
            if file.lower().endswith(_COMPRESSED):
                self._skip(file, "compressed archive: unpack it")
            elif suffix == _TABLE:
                self._table(Path(file), place, given=file == path)
            elif suffix == ".tar" or suffix in IMAGE_SUFFIXES:
                self._add(file, place)
            elif file == path:
                self._skip(file, "neither a tar, a table nor an image")

    def _skip(self, path: object, reason: str) -> None:
        self.listing.skipped.append((str(path), reason))

    def _add(self, file: str, place: _Place) -> None:
        if file in self.found:
            return
        try:
            status = Path(file).stat()
            if not stat.S_ISREG(status.st_mode):
                self._skip(file, "not a regular file")
                return
            relative = place.relative(file)
            relative.encode("utf-8")
        except OSError as error:
            self._skip(file, f"cannot be read: {error.strerror}")
        except UnicodeEncodeError:
            self._skip(file, "the name is not UTF-8")
        else:
            if not os.access(file, os.R_OK):  # as an error it would not be tried again
                self._skip(file, f"cannot be read: {os.strerror(errno.EACCES)}")
                return
            self.found[file] = Source(place.root, relative, status.st_size, status.st_mtime_ns)

    def _table(self, path: Path, place: _Place, given: bool) -> None:
        """A table with images is a source, one with paths is remembered; those beside tars or folders belong
        to these."""
        try:
            check_regular(path)
            kind: TableKind | None = kind_of(path)
        except OSError as error:
            self._skip(path, f"cannot be read: {error.strerror or error}")
        except DataError as error:
            if given or not is_sidecar(path):
                self._skip(path, error.message)
        else:
            beside_tar = path.with_suffix(".tar").exists()
            if kind == "bytes":
                self._add(str(path), place)
            elif kind == "path" and not beside_tar:
                self._tables[path] = place
            elif given or not is_sidecar(path):
                belongs = (
                    "it belongs to the tar beside it" if beside_tar else "a table without images or paths"
                )
                self._skip(path, belongs)

    def at_paths_in_tables(self) -> None:
        """Add the loose files that the remembered tables name."""
        for table, place in sorted(self._tables.items()):
            try:
                paths = table_paths(table)
            except (OSError, DataError) as error:
                self._skip(table, f"cannot be read: {error}")
                continue
            self._files_of(table, paths, place)

    def _files_of(self, table: Path, paths: list[str | None], place: _Place) -> None:
        images = [(row, path) for row, path in enumerate(paths) if path and _is_image(path)]
        missing = []
        outside = [str(Path(path).parent) for _, path in images if not _lies_in(path, place.base)]
        far = place
        if outside:
            base = os.path.commonpath(outside)
            far = _Place(base, *self.roots.place(base))
        for row, path in images:
            own = place if _lies_in(path, place.base) else far
            if path not in self.found and not os.path.lexists(path):
                missing.append(path)
                continue
            self._add(path, own)
            if path in self.found:
                source = self.found[path]
                if not source.table:
                    self.found[path] = replace(source, table=str(table), table_row=row)
        if missing:
            self._skip(table, f"{len(missing)} of its {len(paths)} files do not exist, as {missing[0]}")
        if len(images) < len(paths):
            count = len(paths) - len(images)
            self._skip(table, f"{count} of its {len(paths)} rows name no JPEG, PNG or WebP file")

    def at_remote(self, pool: str) -> None:
        """List a pool that is a URL."""
        files = list_remote(pool)
        if any(
            f"/{EMBEDDINGS_FOLDER}/" in f"/{file.relative}" and file.url.endswith(".npy") for file in files
        ):
            raise UsageError(
                f"--pool {pool} holds ready embeddings: they are read from local disks only",
                hint="copy its img_emb/ and metadata/ here; the images themselves are not needed",
            )
        urls = {file.url for file in files}
        for file in files:
            place = self.roots.place(file.base)
            relative = joined(place[1], file.relative) if place[1] else file.relative
            source = Source(place[0], relative, *file.status)
            if file.url.lower().endswith(_COMPRESSED):
                self._skip(file.url, "compressed archive: unpack it")
            elif source.is_table:
                if RemotePath(file.url).with_suffix(".tar").url not in urls:
                    self._remote_table(file.url, source)
            elif source.is_tar or _is_image(file.url):
                self.found.setdefault(file.url, source)
            elif len(files) == 1:
                self._skip(file.url, "neither a tar, a table nor an image")

    def _remote_table(self, url: str, source: Source) -> None:
        try:
            kind = kind_of(RemotePath(url))
        except (OSError, DataError) as error:
            self._skip(url, f"cannot be read: {error}")
            return
        if kind == "bytes":
            self.found.setdefault(url, source)
        elif kind == "path":
            self._skip(url, "a table with paths: a remote one must have the images' bytes")

    def at_embeddings(self, folder: Path, place: _Place) -> str | None:
        """List the files of a folder of ready embeddings, cut into pieces; returns how its items are
        named."""
        files = find_embeddings(folder)
        self.listing.skipped.extend(files.skipped)
        if files.headers and files.id_kind is None:
            raise UsageError(
                f"the metadata of {folder} has no column url and no column image_path",
                hint="items of ready embeddings are named by one of the two",
            )
        for number, (array, table) in files.pairs.items():
            try:
                status = array.stat()
                newest = max(status.st_mtime_ns, table.stat().st_mtime_ns)
                relative = place.relative(array)
                relative.encode("utf-8")
            except OSError as error:
                self._skip(array, f"cannot be read: {error.strerror}")
                continue
            except UnicodeEncodeError:
                self._skip(array, "the name is not UTF-8")
                continue
            header = files.headers.get(number)
            rows = header.rows if header is not None else 0
            if header is not None:
                self.listing.dimensions.setdefault(header.dimension, str(array))
            for first in range(0, max(rows, 1), PIECE_ROWS):
                count = min(PIECE_ROWS, rows - first)
                piece = Source(place.root, relative, status.st_size, newest, first, count)
                self.found[f"{array}:{first}"] = piece
        return files.id_kind


def _is_image(path: str) -> bool:
    return Path(path).suffix.lower() in IMAGE_SUFFIXES


def _lies_in(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip(os.sep) + os.sep)
