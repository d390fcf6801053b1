import errno
import json
import shutil

import numpy as np
import pytest

from curate.index.forget import ForgetOptions, forget
from curate.index.ids import sort_ids
from curate.index.index import open_index
from curate.index.manifest import finished_parts
from curate.index.numbering import Numbering
from curate.index.search import faiss_choice, faiss_file, faiss_recall
from curate.index.search.faiss_choice import FaissWish
from curate.index.search.faiss_file import FaissFile, build_faiss
from curate.index.search.faiss_recall import mean_recall
from curate.index.search.searcher import make_searcher
from transferset.errors import DataError


def searcher(parts):
    return make_searcher(
        parts, parts[0].dimension, sort_ids(parts, Numbering(parts)), np.empty((0, 16), np.uint8)
    )


def test_its_ids_are_positions(make_index, unit_rows):
    rows = unit_rows(30, 8)
    path = make_index([rows[:20], rows[20:]])
    index = open_index(path)
    about = index.manifest["faiss"]
    assert (about["factory"], about["probes"], about["recall"], about["depth"]) == (
        "IDMap2,SQfp16",
        None,
        1,
        29,
    )
    found = FaissFile(path, index.manifest["parts"]["sha256"]).candidates(rows, 1)[:, 0]
    assert found.tolist() == [*range(20), *(1 << 32 | row for row in range(10))]


def test_new_parts_are_added_to_the_old_file(make_index, unit_rows, monkeypatch):
    path = make_index([unit_rows(20, 8), unit_rows(10, 8, 1)])
    index = open_index(path)
    added: list[int] = []
    add = faiss_file._add
    monkeypatch.setattr(
        faiss_file, "_add", lambda content, part: (added.append(part.number), add(content, part))
    )
    build_faiss(path, searcher(index.parts[:1]), FaissWish(), "1" * 64, None)
    build_faiss(path, searcher(index.parts), FaissWish(), "2" * 64, "1" * 64)
    build_faiss(path, searcher(index.parts), FaissWish(), "2" * 64, "1" * 64)
    assert added == [0, 1]
    whole = next(iter((path / "faiss").glob(index.manifest["parts"]["sha256"][:16] + "/index.faiss")))
    assert (path / "faiss" / ("2" * 16) / "index.faiss").read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("codes", ["SQ8", "PQ8x4fs"])
def test_inverted_lists_reach_the_wanted_recall_and_score_truly(make_index, unit_rows, monkeypatch, codes):
    monkeypatch.setattr(faiss_choice, "FLAT_ROWS", 100)
    wish = FaissWish(1)
    if codes == "SQ8":  # finds more with few candidates
        monkeypatch.setattr(faiss_recall, "OVERFETCH", (1.0,))
        monkeypatch.setattr(faiss_recall, "_SPARE", 0)
        wish = FaissWish(1, 0.995)
    centres = unit_rows(20, 16, 9)
    rows = np.repeat(centres, 100, axis=0) + 0.3 * unit_rows(2000, 16, 1)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    index = open_index(make_index([rows[:1200], rows[1200:]]))
    build_faiss(index.path, searcher(index.parts), wish, index.manifest["parts"]["sha256"], None)
    about = FaissFile(index.path, index.manifest["parts"]["sha256"]).about
    assert about.factory == f"IVF32,{codes}" and about.probes and about.recall >= 0.95
    assert about.too_coarse == (["IVF32,PQ8x4fs"] if codes == "SQ8" else [])
    exact_positions, exact_scores = index.search(rows[::50], 100)
    positions, scores = index.search(rows[::50], 100, "faiss")
    assert mean_recall(exact_positions, positions) > 0.9
    truth = dict(zip(exact_positions[0].tolist(), exact_scores[0].tolist(), strict=True))
    for position, score in zip(positions[0].tolist(), scores[0].tolist(), strict=True):
        assert truth.get(position, score) == score
    everything, _ = index.search(rows[:1], 2000, "faiss")
    assert len(set(everything[0].tolist())) == 2000, "deeper than the lists that are probed"


def test_what_is_forgotten_is_passed_over(make_index, unit_rows):
    rows = unit_rows(60, 8)
    index = open_index(make_index([rows[:40], rows[40:]]))
    first, _ = index.search(rows[:1], 50, "faiss")
    gone = [item.item_id.hex() for item in index.items(first[0, :30])]
    forget(index, ForgetOptions(item_ids=gone))
    found, _ = index.search(rows[:1], 50, "faiss")
    assert found[0, :20].tolist() == first[0, 30:].tolist()
    assert (found >= 0).sum() == 30


def test_without_the_file_the_exact_scan_still_works(make_index, unit_rows):
    path = make_index([unit_rows(20, 8)])
    shutil.rmtree(path / "faiss")
    index = open_index(path)
    assert index.search(unit_rows(1, 8), 3)[0].shape == (1, 3)
    with pytest.raises(DataError, match="has no FAISS file"):
        index.search(unit_rows(1, 8), 3, "faiss")


def test_a_damaged_file_is_a_data_error_and_is_made_again(make_index, unit_rows):
    path = make_index([unit_rows(20, 8)])
    file = next((path / "faiss").glob("*/index.faiss"))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match="is damaged"):
        open_index(path).search(unit_rows(1, 8), 3, "faiss")
    index = open_index(path)
    about = build_faiss(path, searcher(index.parts), FaissWish(), "3" * 64, index.manifest["parts"]["sha256"])
    assert about.rows == 20


@pytest.mark.parametrize("older_layout", [False, True])
def test_a_part_with_the_number_of_a_deleted_one_is_not_taken_for_it(make_index, unit_rows, older_layout):
    path = make_index([unit_rows(20, 8), unit_rows(30, 8, 1)])
    old = open_index(path).manifest["parts"]["sha256"]
    shutil.rmtree(path / "parts" / "000001")
    rows = unit_rows(10, 8, 2)
    other = make_index([unit_rows(20, 8), rows], name="other")
    shutil.copytree(other / "parts" / "000001", path / "parts" / "000001")
    if older_layout:
        about = path / "faiss" / old[:16] / "about.json"
        about.write_text(json.dumps(json.loads(about.read_text()) | {"parts": [0, 1]}))
        with pytest.raises(DataError, match="has no FAISS file"):
            FaissFile(path, old)
    parts = [part.open() for part in finished_parts(path)]
    for state in ("5" * 64, old):  # a new state, and one that a file lies in
        assert build_faiss(path, searcher(parts), FaissWish(), state, old).rows == 30
        found = FaissFile(path, state).candidates(rows, 1)[:, 0]
        assert found.tolist() == [1 << 32 | row for row in range(10)]


def test_a_file_with_other_rows_than_it_says_is_made_again(make_index, unit_rows):
    path = make_index([unit_rows(20, 8), unit_rows(10, 8, 1)])
    sha256 = open_index(path).manifest["parts"]["sha256"]
    about = path / "faiss" / sha256[:16] / "about.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"rows": 29}))
    with pytest.raises(DataError, match="holds 30 rows instead of 29"):
        FaissFile(path, sha256)
    parts = open_index(path).parts
    assert build_faiss(path, searcher(parts), FaissWish(), "6" * 64, sha256).rows == 30
    assert len(FaissFile(path, "6" * 64).candidates(unit_rows(1, 8), 30)[0]) == 30


def test_a_full_disk_is_told_as_such(make_index, unit_rows, monkeypatch):
    import faiss

    def full(*_):
        raise RuntimeError("Error in write: write error in x: 1 != 2 (No space left on device)")

    path = make_index([unit_rows(20, 8)])
    index = open_index(path)
    monkeypatch.setattr(faiss, "write_index", full)
    with pytest.raises(OSError, match="No space left") as caught:
        build_faiss(path, searcher(index.parts), FaissWish(), "4" * 64, None)
    assert caught.value.errno == errno.ENOSPC
    assert not list((path / "faiss").glob(".tmp-*"))


@pytest.mark.parametrize("flat_rows", [100, 100_000])
def test_blocked_rows_are_passed_over(make_index, unit_rows, monkeypatch, flat_rows):
    monkeypatch.setattr(faiss_choice, "FLAT_ROWS", flat_rows)
    path = make_index([unit_rows(900, 16, 1), unit_rows(600, 16, 2)])
    index = open_index(path)
    blocked = np.ones(1500, np.uint8)
    blocked[::7] = 0
    queries = unit_rows(6, 16, 3)
    positions, scores = index.search(queries, 40, "faiss", blocked)
    rows = index._numbering.rows(positions)
    assert (positions >= 0).all() and (rows % 7 == 0).all()
    exact, _ = index.search(queries, 40, "exact", blocked)
    assert mean_recall(exact, positions) > 0.8
    assert (index.score(queries, rows) == scores).all()
