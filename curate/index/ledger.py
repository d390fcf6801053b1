"""forgotten.parquet: the items that nothing may give out any more. It only grows."""

import datetime
import hashlib
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.index.layout import LEDGER, LEDGER_LOCK, ledger_schema
from transferset.errors import DataError
from transferset.lock import DirectoryLock
from transferset.writes import atomic_path, sweep_temporaries_of

_CHECKSUM = b"sha256"
_Stamp = tuple[int, int, int]
REPAIR = "restore forgotten.parquet from a copy: without it, it is unknown what must not be returned"


@dataclass(frozen=True)
class LedgerEntry:
    """A forgotten item: who asked when and why, and how it was named."""

    item_id: bytes
    who: str
    when: datetime.datetime
    why: str
    how: str


@dataclass(frozen=True)
class Ledger:
    """The entries of one state of forgotten.parquet."""

    entries: tuple[LedgerEntry, ...] = ()

    @cached_property
    def ids(self) -> frozenset[bytes]:
        return frozenset(entry.item_id for entry in self.entries)

    @cached_property
    def sorted_ids(self) -> np.ndarray:
        """(n, 16) uint8 in ascending order."""
        return np.frombuffer(b"".join(sorted(self.ids)), np.uint8).reshape(-1, 16)

    @property
    def digest(self) -> str | None:
        """SHA-256 over the ids; None if there are none."""
        return hashlib.sha256(self.sorted_ids.tobytes()).hexdigest() if self.ids else None

    def among(self, item_ids: np.ndarray) -> np.ndarray:
        """Mask (n,) of those of `item_ids` (n, 16) uint8 that are forgotten."""
        if not self.ids:
            return np.zeros(len(item_ids), bool)
        return np.isin(_as_bytes(item_ids), _as_bytes(self.sorted_ids))


def _as_bytes(item_ids: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(item_ids).reshape(-1).view("S16")


def read_ledger(index: Path) -> Ledger:
    """The ledger of an index, empty if there is none; DataError if it is damaged: then nothing may be given
    out."""
    path = Path(index) / LEDGER
    try:
        table = pq.read_table(path)
        columns = [column.to_pylist() for column in table.select(ledger_schema().names).columns]
        entries = tuple(LedgerEntry(*values) for values in zip(*columns, strict=True))
        if (table.schema.metadata or {}).get(_CHECKSUM) != _checksum(entries):
            raise ValueError("its content does not have its checksum")
    except FileNotFoundError:
        return Ledger()
    except (OSError, pa.ArrowException, ValueError, KeyError) as error:
        raise DataError(f"{path} is damaged: {error}", hint=REPAIR) from error
    return Ledger(entries)


def _checksum(entries: Iterable[LedgerEntry]) -> bytes:
    lines = (
        "\t".join([one.item_id.hex(), one.who, one.when.isoformat(), one.why, one.how]) for one in entries
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest().encode()


def add_to_ledger(index: Path, entries: Iterable[LedgerEntry]) -> int:
    """Append what is not in the ledger yet; returns how many that were. BusyError while another does so."""
    index = Path(index)
    with DirectoryLock(index, LEDGER_LOCK):
        sweep_temporaries_of(index / LEDGER)
        known = read_ledger(index)
        fresh = {entry.item_id: entry for entry in entries if entry.item_id not in known.ids}
        if fresh:
            _write(index / LEDGER, [*known.entries, *fresh.values()])
    return len(fresh)


def _write(path: Path, entries: list[LedgerEntry]) -> None:
    names = ledger_schema().names
    columns = {name: [getattr(entry, name) for entry in entries] for name in names}
    schema = ledger_schema().with_metadata({_CHECKSUM: _checksum(entries)})
    table = pa.table(columns, schema=schema)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


class LiveLedger:
    """The ledger as it is now: read again when the file has changed. Threads may share it."""

    def __init__(self, index: Path) -> None:
        self._path = Path(index) / LEDGER
        self._lock = threading.Lock()
        self._stamp: _Stamp | None = None
        self._ledger = Ledger()

    @property
    def now(self) -> Ledger:
        """The present state; the same object as long as nothing changes."""
        stamp = self._stat()
        if stamp != self._stamp:
            with self._lock:
                if stamp != self._stamp:
                    self._ledger, self._stamp = read_ledger(self._path.parent), stamp
        return self._ledger

    def _stat(self) -> _Stamp | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
