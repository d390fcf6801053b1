"""The pool's own bytes of an item, wherever the pool is now."""

import errno
import threading
from collections import OrderedDict

from curate.index.part import ItemRow
from curate.pools import Roots
from curate.pools.regular import read_regular
from curate.pools.remote import PoolPath, RangeReader, RemotePath
from curate.pools.row_groups import RowGroups
from curate.pools.tables import read_table_bytes
from transferset.copies import item_id
from transferset.errors import DataError
from transferset.tars import TarReader

_OPEN_TARS = 128
_MISSING = {errno.ENOENT, errno.ENOTDIR}
_CHANGED = (
    "the pool has changed since it was indexed: restore this file from a copy, or build another index of"
    " what the pool holds now"
)


class NoBytes(DataError):
    """The pool holds no image for any item: it is of ready embeddings."""


class ByteReader:
    """Reads items from the pool; threads may share it. Each read is checked against the item id."""

    def __init__(self, roots: Roots, id_kind: str = "bytes") -> None:
        self._roots = roots
        self._id_kind = id_kind
        self._tars: OrderedDict[PoolPath, TarReader | RangeReader] = OrderedDict()
        self._tables = RowGroups()
        self._lock = threading.Lock()

    def path(self, item: ItemRow) -> PoolPath:
        """The file that an item's bytes are in, as of now."""
        return self._roots.join(item.root, item.source if item.source is not None else item.path or "")

    def read(self, item: ItemRow) -> bytes:
        """The encoded bytes of an item; DataError, with what to do, if they are not what was indexed, or if
        the pool holds no bytes."""
        if self._id_kind != "bytes":
            raise NoBytes(
                f"{_name(item)} is known by its {self._id_kind} only: the pool is of ready embeddings and "
                "holds no images",
                hint="curate retrieve writes the URLs of what it selects, curate fetch gets them"
                if self._id_kind == "url"
                else "build an index of the images themselves",
            )
        path = self.path(item)
        try:
            data = (
                self._inside(path, item.offset, item.size) if item.offset is not None else read_regular(path)
            )
        except (OSError, DataError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            reason = cause.strerror if isinstance(cause, OSError) else str(error)
            raise DataError(
                f"{_name(item)} cannot be read from {path}: {reason}", hint=self._remedy(item, cause)
            ) from error
        if item_id(data) != item.item_id:
            raise DataError(
                f"{_name(item)}: {path} no longer holds the image that was indexed",
                hint=_CHANGED,
            )
        return data

    def _remedy(self, item: ItemRow, cause: object) -> str:
        if not isinstance(cause, OSError):
            return _CHANGED
        if cause.errno not in _MISSING:
            return "make it readable, then run the same command again"
        root = self._roots.path(item.root)
        return (
            f"if the pool moved from {root}, give its new location with --pool-root {root}=NEW, "
            "or permanently with curate build-index --pool NEW --index …"
        )

    def _inside(self, path: PoolPath, offset: int, size: int) -> bytes:
        """An item of a table or a tar."""
        if path.suffix.lower() == ".parquet":
            return read_table_bytes(self._tables, path, offset)
        return self._tar(path).read(offset, size)

    def _tar(self, path: PoolPath) -> TarReader | RangeReader:
        """An open tar. One that is pushed out is closed when its last user lets go of it."""
        with self._lock:
            reader = self._tars.get(path)
            if reader is None:
                reader = self._tars[path] = _open(path)
                if len(self._tars) > _OPEN_TARS:
                    self._tars.popitem(last=False)
            self._tars.move_to_end(path)
            return reader


def _open(path: PoolPath) -> TarReader | RangeReader:
    return RangeReader(path, blocks=False) if isinstance(path, RemotePath) else _ClosingTar(path)


class _ClosingTar(TarReader):
    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self.close()


def _name(item: ItemRow) -> str:
    return f"item {item.item_id.hex()} ({item.key})"
