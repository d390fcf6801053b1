"""A part without some of its rows: what leaves, what stays, and what builds still know."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from curate.index.building.part_copy import Purge, copy_part
from curate.index.layout import BATCH_ROWS, ERRORS, part_directory
from curate.index.manifest import FinishedPart, finished_parts
from curate.pools import FORGOTTEN, Problem, Source
from tests.curate.index.parts import part_of
from transferset.errors import DataError

TAR, OTHER_TAR = Source(0, "a.tar", 100, 1), Source(0, "b.tar", 200, 2)
LOOSE = [Source(0, f"{number}.jpg", 10, 3) for number in range(3)]


def mask(rows: int, *places: int) -> np.ndarray:
    return np.isin(np.arange(rows), places)


def purge(rows: int, forgotten: tuple[int, ...] = (), gone: tuple[int, ...] = (), *sources: Source) -> Purge:
    keys = frozenset((source.root, source.path) for source in sources)
    return Purge(mask(rows, *forgotten), mask(rows, *gone), keys)


def of_tars(index: Path) -> FinishedPart:
    rows = [(TAR, 0, b"a0"), (TAR, 10, b"a1"), (OTHER_TAR, 0, b"b0"), (OTHER_TAR, 10, b"b1")]
    problems = [Problem("image", TAR, "x", "empty"), Problem("source", OTHER_TAR, "", "cut off")]
    return part_of(index, 0, rows, problems)


def keys(part: FinishedPart) -> list[str]:
    return [item.key for item in part.open().read(np.arange(part.rows))]


def errors(part: FinishedPart) -> list[tuple[str, str | None, str | None, str]]:
    rows = pq.read_table(part.directory / ERRORS).to_pylist()
    return [(row["kind"], row["source"], row["path"], row["reason"]) for row in rows]


def test_rows_that_leave_are_the_forgotten_and_the_gone() -> None:
    assert purge(4, (1,), (1, 3)).kept.tolist() == [True, False, True, False]


def test_there_is_something_to_do_for_a_row_or_a_source_of_none() -> None:
    assert not purge(4)
    assert purge(4, (1,)) and purge(4, (), (1,)) and purge(4, (), (), TAR)


def test_rows_that_stay_keep_their_order_and_their_embeddings(tmp_path: Path) -> None:
    old = of_tars(tmp_path)
    new = copy_part(tmp_path, 1, old, purge(4, (1,)))
    assert (new.number, new.rows, keys(new)) == (1, 3, ["0/0", "0/2", "0/3"])
    assert np.array_equal(new.open().embeddings, old.open().embeddings[[0, 2, 3]])
    assert [item.offset for item in new.open().read(np.arange(3))] == [0, 0, 10]


def test_the_old_part_is_left_and_counts_no_more(tmp_path: Path) -> None:
    old = of_tars(tmp_path)
    new = copy_part(tmp_path, 1, old, purge(4, (1,)))
    assert keys(old) == ["0/0", "0/1", "0/2", "0/3"] and new.replaces == [0]
    assert [part.number for part in finished_parts(tmp_path)] == [1]
    newest = copy_part(tmp_path, 7, new, purge(3, (0,)))
    assert newest.replaces == [0, 1]
    assert [part.number for part in finished_parts(tmp_path)] == [7]


def test_a_source_that_is_gone_leaves_with_its_errors(tmp_path: Path) -> None:
    new = copy_part(tmp_path, 1, of_tars(tmp_path), purge(4, (), (0, 1), TAR))
    assert [one["path"] for one in new.done["sources"]] == ["b.tar"]
    assert errors(new) == [("source", "b.tar", None, "cut off")] and new.error_count == 0


def test_a_source_whose_rows_are_all_forgotten_stays_known(tmp_path: Path) -> None:
    new = copy_part(tmp_path, 1, of_tars(tmp_path), purge(4, (0, 1)))
    assert [one["path"] for one in new.done["sources"]] == ["a.tar", "b.tar"]
    assert errors(new) == [("image", "a.tar", None, "empty"), ("source", "b.tar", None, "cut off")]


def test_forgotten_loose_files_stay_known_and_gone_ones_do_not(tmp_path: Path) -> None:
    old = part_of(tmp_path, 0, [(source, None, b"ten bytes.") for source in LOOSE])
    new = copy_part(tmp_path, 1, old, purge(3, (0, 1), (1,), LOOSE[1]))
    assert errors(new) == [("forgotten", None, "0.jpg", FORGOTTEN)] and keys(new) == ["0/2"]
    row = pq.read_table(new.directory / ERRORS).to_pylist()[0]
    assert (row["size"], row["mtime_ns"], row["key"]) == (10, 3, None), "what builds look for, and no name"


def test_a_part_may_be_left_with_no_row(tmp_path: Path) -> None:
    new = copy_part(tmp_path, 1, of_tars(tmp_path), purge(4, (0, 1, 2, 3)))
    assert new.rows == 0 and keys(new) == [] and new.open().embeddings.shape == (0, 4)


def test_rows_are_found_in_a_part_of_several_batches(tmp_path: Path) -> None:
    rows = BATCH_ROWS + 10
    old = part_of(tmp_path, 0, [(TAR, row, b"x") for row in range(rows)])
    new = copy_part(tmp_path, 1, old, purge(rows, (0, BATCH_ROWS)))
    items = new.open().read(np.array([0, BATCH_ROWS - 2, BATCH_ROWS - 1, rows - 3]))
    assert [item.offset for item in items] == [1, BATCH_ROWS - 1, BATCH_ROWS + 1, rows - 1]


def test_a_damaged_error_table_is_told_and_leaves_no_half_part(tmp_path: Path) -> None:
    old = of_tars(tmp_path)
    (old.directory / ERRORS).write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"errors\.parquet is damaged"):
        copy_part(tmp_path, 1, old, purge(4, (1,)))
    assert list(part_directory(tmp_path, 1).parent.iterdir()) == [old.directory]
