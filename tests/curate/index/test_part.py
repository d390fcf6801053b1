import time

import numpy as np
import pytest

from curate.index.index import open_index
from curate.index.layout import BATCH_ROWS, part_directory
from transferset.errors import DataError


def test_items_come_in_the_order_asked_for(make_index, unit_rows):
    index = open_index(make_index([unit_rows(BATCH_ROWS + 50, 4), unit_rows(30, 4, 1)]))
    positions = np.array([1 << 32 | 29, 0, BATCH_ROWS + 49, BATCH_ROWS - 1, 0, 1 << 32, BATCH_ROWS])
    items = index.items(positions)
    assert [item.key for item in items] == [
        f"{position >> 32}/{position & 0xFFFFFFFF}" for position in positions.tolist()
    ]
    assert [item.position for item in items] == positions.tolist()
    assert items[0].caption == "caption 1/29"
    assert (items[0].source, items[0].offset, items[0].path) == (None, None, "1/29.jpg")
    assert index.items(np.empty(0, np.int64)) == []


def test_a_hundred_thousand_items_take_seconds(make_index, unit_rows):
    index = open_index(make_index([unit_rows(20_000, 2)]))
    positions = np.random.default_rng(0).integers(0, 20_000, 100_000)
    start = time.process_time()
    items = index.items(positions)
    assert time.process_time() - start < 5
    assert [item.row for item in items] == positions.tolist()


def test_ids_and_embeddings_are_by_row(make_index, unit_rows):
    rows = unit_rows(BATCH_ROWS + 3, 6)
    index = open_index(make_index([rows]))
    ids = index.item_ids(0)
    for row in (0, BATCH_ROWS - 1, BATCH_ROWS, BATCH_ROWS + 2):
        assert index.item(row).item_id == ids[row].tobytes()
    embeddings = index.embeddings(0)
    np.testing.assert_array_equal(embeddings, rows.astype(np.float16))
    with pytest.raises(ValueError, match="read-only"):
        embeddings[0] = 0


def test_an_unknown_position_or_id_is_a_key_error(make_index, unit_rows):
    index = open_index(make_index([unit_rows(3, 4)]))
    for which in (7 << 32, b"\0" * 16):
        with pytest.raises(KeyError):
            index.item(which)
    with pytest.raises(IndexError):
        index.item(3)


def test_damaged_files_are_data_errors(make_index, unit_rows):
    path = make_index([unit_rows(9, 4)])
    directory = part_directory(path, 0)
    whole = {name: (directory / name).read_bytes() for name in ("embeddings.npy", "items.arrow")}
    for name, data in whole.items():
        for damaged in (data[: len(data) // 2], b"", b"x" * len(data)):
            (directory / name).write_bytes(damaged)
            index = open_index(path)
            with pytest.raises(DataError, match=f"{name} is damaged"):
                index.embeddings(0)
                index.item(0)
        (directory / name).write_bytes(data)
    assert open_index(path).item(8).key == "0/8"
