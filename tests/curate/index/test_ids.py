import shutil

import numpy as np

from curate.index.ids import load_ids
from curate.index.index import open_index


def test_find_and_all_places(make_index, unit_rows):
    index = open_index(
        make_index([unit_rows(4, 4), unit_rows(3, 4, 1)], [["a", "b", "c", "d"], ["c", "e", "a"]])
    )
    ids = [item.item_id for item in index.items(np.array([0, 1, 2, 3, 1 << 32 | 1]))]
    assert [index.find(identity) for identity in ids] == [0, 1, 2, 3, 1 << 32 | 1]
    assert index.positions_of(ids[0]) == [0, 1 << 32 | 2]
    assert index.positions_of(ids[2]) == [2, 1 << 32]
    assert index.find(b"\0" * 16) is None
    assert index.find(b"\xff" * 16) is None
    assert index.item(ids[2]).position == 2


def test_the_cache_can_be_lost_or_damaged(make_index, unit_rows):
    path = make_index([unit_rows(50, 4)])
    index = open_index(path)
    sha256 = index.manifest["parts"]["sha256"]
    cached = load_ids(path, sha256, 50)
    assert cached is not None
    identity = index.item(17).item_id
    folder = next((path / "ids").iterdir())
    np.save(folder / "positions.npy", np.zeros(3, np.int64))
    assert load_ids(path, sha256, 50) is None
    assert open_index(path).find(identity) == 17
    shutil.rmtree(path / "ids")
    shutil.rmtree(path / "faiss")
    assert open_index(path).find(identity) == 17


def test_a_cache_of_another_state_is_not_taken(make_index, unit_rows):
    path = make_index([unit_rows(5, 4)])
    assert load_ids(path, "0" * 64, 5) is None
