"""What the tables of transfer sets call the images in their tars, and which label they hint at."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.data.transfer_shards import expand, integers, placed
from transferset.grouping import groups

if TYPE_CHECKING:
    import pyarrow as pa

_COLUMNS = ["item_id", "shard", "offset", "hinted_label"]
_TOLD = ["item_id", "hinted_label"]


@dataclass(frozen=True)
class SetRow:
    """What a transfer set calls an image, in hex, and the label that it hints at, if any."""

    item_id: str
    hinted_label: str | None


@dataclass(frozen=True, eq=False)
class TarRows:
    """The `rows` of a transfer set's `table` that are of one tar, and their `offsets` in it, which ascend."""

    table: "pa.Table"
    offsets: np.ndarray
    rows: np.ndarray

    def find(self, offsets: np.ndarray) -> Iterator[tuple[int, SetRow]]:
        """Which of `offsets` have a row, by their places, and it; of several rows the last."""
        import pyarrow as pa

        last = np.searchsorted(self.offsets, offsets, side="right") - 1
        found = np.flatnonzero(self.offsets[last] == offsets)
        rows = self.table.take(pa.array(self.rows[last[found]])).to_pylist()
        return zip(found.tolist(), map(_set_row, rows), strict=True)


SetRows = Mapping[Path, Sequence[TarRows]]


def set_rows(paths: Sequence[str | Path]) -> SetRows:
    """The rows of the transfer sets among `--shards`, by the tar where an image is. In a set that was fetched
    from URLs an image's `item_id` is of its URL, and not that of its bytes."""
    found: dict[Path, list[TarRows]] = {}
    for root in (path for given in paths for path in expand(given)):
        if (root / "samples.parquet").is_file():
            for tar, rows in _by_tar(root):
                found.setdefault(tar, []).append(rows)
    return found


def find_rows(known: SetRows, tar: Path, offsets: np.ndarray) -> list[SetRow | None]:
    """The row of each image in a tar, by its offset; of several the last, None where there is none."""
    found: list[SetRow | None] = [None] * len(offsets)
    for rows in known.get(tar, ()):
        for place, row in rows.find(offsets):
            found[place] = row
    return found


def _by_tar(root: Path) -> Iterator[tuple[Path, TarRows]]:
    import pyarrow.parquet as pq

    names = pq.read_schema(root / "samples.parquet").names
    table = pq.read_table(root / "samples.parquet", columns=[one for one in _COLUMNS if one in names])
    tars, source = placed(root, table.column("shard"))
    offset = integers(table.column("offset"))
    told = table.select([one for one in _TOLD if one in names]).combine_chunks()
    for rows in groups(np.lexsort((offset, source)), source):
        yield tars[source[rows[0]]], TarRows(told, offset[rows], rows)


def _set_row(row: dict[str, Any]) -> SetRow:
    identity = row["item_id"] if isinstance(row["item_id"], str) else row["item_id"].hex()
    return SetRow(identity, row.get("hinted_label"))
