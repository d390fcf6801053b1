from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from distill.data.set_rows import SetRow, find_rows, set_rows
from tests.distill.data.memory import peak_bytes
from transferset.writes import write_parquet


def _set(root: Path, **columns: object) -> Path:
    (root / "shards").mkdir(parents=True)
    write_parquet(root / "samples.parquet", pa.table(columns))
    return root


def _tar(path: Path) -> Path:
    path.touch()
    return path


def test_rows_are_found_by_tar_and_offset(tmp_path: Path) -> None:
    shards, offsets = ["a.tar", "b.tar", "a.tar", "b.tar"], [2048, 512, 512, 2048]
    first = _set(
        tmp_path / "x", item_id=list("0123"), shard=shards, offset=offsets, hinted_label=["p", None, "q", "r"]
    )
    second = _set(tmp_path / "y", item_id=[b"\x01", b"\x02"], shard=["a.tar"] * 2, offset=[0, 512])
    a, b, other = (
        _tar(first / "shards/a.tar"),
        _tar(first / "b.tar"),
        _tar(second / "shards/a.tar"),
    )
    known = set_rows([str(tmp_path / "[xy]"), second / "shards"])
    assert find_rows(known, a, np.array([512, 0, 2048, 4096])) == [
        SetRow("2", "q"),
        None,
        SetRow("0", "p"),
        None,
    ]
    assert find_rows(known, b, np.array([512, 2048])) == [SetRow("1", None), SetRow("3", "r")]
    assert find_rows(known, other, np.array([512, 512])) == [SetRow("02", None)] * 2
    assert find_rows(known, tmp_path / "none.tar", np.array([512])) == [None]


def test_of_several_rows_of_an_image_the_last_counts(tmp_path: Path) -> None:
    """Also where the set before last names the same tar."""
    outer = _set(tmp_path / "x", item_id=["0", "1", "2"], shard=["y/a.tar"] * 3, offset=[512, 0, 512])
    inner = _set(outer / "y", item_id=["3"], shard=["a.tar"], offset=[0])
    tar = _tar(inner / "a.tar")
    offsets = np.array([0, 512])
    found = [find_rows(set_rows(given), tar, offsets) for given in ([outer, inner], [inner, outer])]
    assert found[0] == [SetRow("3", None), SetRow("2", None)]
    assert found[1] == [SetRow("1", None), SetRow("2", None)]


@pytest.mark.parametrize("tars", [1, 10])
def test_a_row_is_no_object(tmp_path: Path, tars: int) -> None:
    count = 20_000
    root = _set(
        tmp_path / "x",
        item_id=[f"{row:032x}" for row in range(count)],
        shard=[f"{row % tars}.tar" for row in range(count)],
        offset=[512 * row for row in range(count)],
    )
    assert peak_bytes(lambda: set_rows([root])) < 100 * count
