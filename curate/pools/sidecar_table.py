"""The Parquet file that img2dataset writes beside each tar: `00000.parquet` says more about `00000.tar`."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curate.pools.columns import KEY, TableRow, column_of, read_rows, values
from curate.pools.regular import check_regular
from curate.pools.remote import PoolPath
from curate.pools.row_groups import damage
from transferset.errors import DataError

SUFFIX = ".parquet"


def is_sidecar(path: Path) -> bool:
    """Whether a table belongs to a tar, or to a folder of files, beside it."""
    return path.with_suffix(".tar").exists() or path.with_suffix("").is_dir()


class SidecarTable:
    """The rows of the table beside a tar, by key. Nothing is read before a row is asked for."""

    def __init__(self, tar: PoolPath) -> None:
        self._path = tar.with_suffix(SUFFIX)
        self._table: pa.Table | None = None
        self._rows: dict[str, int] = {}

    def find(self, key: str) -> TableRow | None:
        """The row with a key; None if there is none, or no table. DataError if the table is damaged; it then
        counts as missing."""
        if self._table is None:
            self._table = pa.table({})
            self._load()
        row = self._rows.get(key)
        return None if row is None else read_rows(self._table.slice(row, 1), sized=False)[0]

    def _load(self) -> None:
        try:
            check_regular(self._path)
            with self._path.open("rb") as file:
                table = pq.read_table(file)
        except FileNotFoundError:
            return
        except DataError as error:
            raise DataError(f"{self._path.name}: {error.message}") from error
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{self._path.name}: {damage(error)}") from error
        name = column_of(table.schema.names, KEY)
        if name is not None:
            self._table = table
            self._rows = {str(key): row for row, key in enumerate(values(table.column(name)))}
