import errno
import shutil

import numpy as np
import pytest

from curate.index import faiss_file, open_index
from curate.index.faiss_file import FaissFile, build_faiss, choose_factory
from transferset.errors import DataError


def test_the_factory_goes_by_the_number_of_rows():
    assert choose_factory(24_000) == "IDMap2,SQfp16"
    assert choose_factory(1_000_000) == "IVF4096,SQfp16"
    assert choose_factory(10_000_000) == "IVF16384,SQfp16"


def test_its_ids_are_positions(make_index, unit_rows):
    rows = unit_rows(30, 8)
    path = make_index([rows[:20], rows[20:]])
    index = open_index(path)
    assert index.manifest["faiss"] == {"factory": "IDMap2,SQfp16", "probes": None}
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
    build_faiss(path, index.parts[:1], "1" * 64, None)
    build_faiss(path, index.parts, "2" * 64, "1" * 64)
    build_faiss(path, index.parts, "2" * 64, "1" * 64)
    assert added == [0, 1]
    whole = next(iter((path / "faiss").glob(index.manifest["parts"]["sha256"][:16] + "/index.faiss")))
    assert (path / "faiss" / ("2" * 16) / "index.faiss").read_bytes() == whole.read_bytes()


def test_inverted_lists_find_most_and_score_truly(make_index, unit_rows, monkeypatch):
    monkeypatch.setattr(faiss_file, "FLAT_ROWS", 100)
    monkeypatch.setattr(faiss_file, "PROBES", 12)
    centres = unit_rows(20, 16, 9)
    rows = np.repeat(centres, 100, axis=0) + 0.3 * unit_rows(2000, 16, 1)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    index = open_index(make_index([rows[:1200], rows[1200:]]))
    assert index.manifest["faiss"] == {"factory": "IVF128,SQfp16", "probes": 12}
    exact_positions, exact_scores = index.search(rows[::50], 10)
    positions, scores = index.search(rows[::50], 10, "faiss")
    hits = [len(set(a) & set(b)) for a, b in zip(exact_positions.tolist(), positions.tolist(), strict=True)]
    assert np.mean(hits) > 7
    truth = dict(zip(exact_positions[0].tolist(), exact_scores[0].tolist(), strict=True))
    for position, score in zip(positions[0].tolist(), scores[0].tolist(), strict=True):
        assert truth.get(position, score) == score


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
    about = build_faiss(path, index.parts, "3" * 64, index.manifest["parts"]["sha256"])
    assert about.rows == 20


def test_a_full_disk_is_told_as_such(make_index, unit_rows, monkeypatch):
    import faiss

    def full(*_):
        raise RuntimeError("Error in write: write error in x: 1 != 2 (No space left on device)")

    path = make_index([unit_rows(20, 8)])
    index = open_index(path)
    monkeypatch.setattr(faiss, "write_index", full)
    with pytest.raises(OSError, match="No space left") as caught:
        build_faiss(path, index.parts, "4" * 64, None)
    assert caught.value.errno == errno.ENOSPC
    assert not list((path / "faiss").glob(".tmp-*"))
