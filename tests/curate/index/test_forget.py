import shutil

import numpy as np
import pytest

from curate.index.build import build_index
from curate.index.forget import ForgetOptions, forget
from curate.index.index import open_index
from curate.index.ledger import read_ledger
from curate.index.options import BuildOptions
from curate.selection.select import select
from curate.selection.select_options import SelectOptions
from transferset.copies import item_id
from transferset.errors import DataError, UsageError


@pytest.fixture
def own(small_pool, tmp_path):
    """A copy of the small index, still over the same pool."""
    shutil.copytree(small_pool.index, tmp_path / "index")
    return tmp_path / "index"


def ids_found(index, k=80, engine="exact"):
    query = index.embeddings(0)[:1].astype(np.float32)
    positions, _ = index.search(query / np.linalg.norm(query), k, engine)
    return {item.item_id for item in index.items(positions[positions >= 0])}


def test_an_open_index_obeys_at_once(small_pool, own):
    index = open_index(own)
    gone = item_id(small_pool.images["t/00001"])
    item = index.item(gone)
    assert gone in ids_found(index) and index.distinct == 70
    report = forget(own, ForgetOptions(item_ids=[gone.hex()], who="A", why="B"))
    assert [(one.item_id, one.places, one.key) for one in report.items] == [(gone.hex(), 2, "00001")]
    assert (report.already, report.total) == (0, 1)
    assert gone not in ids_found(index) and len(ids_found(index)) == index.distinct == 69
    assert index.find(gone) is None and index.positions_of(gone) == []
    with pytest.raises(KeyError):
        index.item(gone)
    with pytest.raises(DataError, match="was forgotten"):
        index.read_bytes(item)
    entry = read_ledger(own).entries[0]
    assert (entry.who, entry.why, entry.how) == ("A", "B", "item id")
    assert forget(own, ForgetOptions(item_ids=[gone.hex()])).already == 1


@pytest.mark.parametrize("strategy", ["query-balanced", "best-match", "random"])
def test_no_strategy_selects_it(small_pool, own, strategy):
    index = open_index(own)
    gone = {item_id(small_pool.images[name]) for name in ("t/00000", "t/00003", "5.png")}
    forget(own, ForgetOptions(item_ids=[one.hex() for one in gone]))
    vectors = index.embeddings(0)[:2].astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    selection = select(
        index,
        vectors,
        ["0" * 32, "1" * 32],
        [None, None],
        [40, 40],
        SelectOptions(total=80, strategy=strategy),
    )
    found = index.items(np.array([pick.position for pick in selection.picks]))
    assert len(found) == 67
    assert not {item.item_id for item in found} & gone


def test_by_image_and_url(small_pool, own, tmp_path):
    index = open_index(own)
    (tmp_path / "a.jpg").write_bytes(small_pool.images["3.png"])
    (tmp_path / "new.jpg").write_bytes(b"not in the index")
    report = forget(own, ForgetOptions(images=[tmp_path / "a.jpg", tmp_path / "new.jpg"]))
    assert [one.places for one in report.items] == [1, 0]
    assert index.find(item_id(small_pool.images["3.png"])) is None
    report = forget(own, ForgetOptions(urls=["https://example.org/0001?[?]*"]))
    assert len(report.items) == 10
    assert {one.url[:23] for one in report.items} == {"https://example.org/000"}
    assert index.distinct == 59


def test_by_similarity(small_pool, own, tmp_path):
    query = tmp_path / "q.jpg"
    query.write_bytes(small_pool.images["t/00000"])
    tried = ForgetOptions(similar_to=[query], min_similarity=0.99, dry_run=True)
    found = forget(own, tried)
    assert item_id(small_pool.images["t/00000"]).hex() == found.items[0].item_id
    similarities = [one.similarity for one in found.items]
    assert similarities == sorted(similarities, reverse=True) and similarities[-1] >= 0.99
    assert not (own / "forgotten.parquet").exists()
    everything = forget(own, ForgetOptions(similar_to=[query], min_similarity=-1, dry_run=True))
    assert len(everything.items) == 70


def test_the_same_bytes_do_not_come_again(small_pool, own, tmp_path):
    gone = item_id(small_pool.images["t/00001"])
    absent = b"never"
    forget(own, ForgetOptions(item_ids=[gone.hex(), item_id(absent).hex()]))
    more = tmp_path / "more"
    more.mkdir()
    (more / "again.jpg").write_bytes(small_pool.images["t/00001"])
    (more / "fresh.jpg").write_bytes(small_pool.images["t/00002"])
    options = BuildOptions(faiss=False)
    report = build_index([more], own, options)
    assert (report.new_images, report.forgotten) == (1, 1)
    assert report.error_count == 0
    assert build_index([more], own, options).new_parts == 0, "it is known, and not read again"
    index = open_index(own)
    assert gone not in ids_found(index)
    assert gone not in {one.tobytes() for one in index.item_ids(2)}


def test_nonsense_is_a_usage_error(own):
    for options in (
        {},
        {"item_ids": ["xyz"]},
        {"similar_to": [own]},
        {"min_similarity": 0.5, "item_ids": ["0" * 32]},
    ):
        with pytest.raises(UsageError):
            forget(own, ForgetOptions(**options))
    with pytest.raises(DataError, match="cannot be read"):
        forget(own, ForgetOptions(images=[own / "nothing.jpg"]))
