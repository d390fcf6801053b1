import numpy as np
import pytest
import torch

from curate.index.index import open_index
from curate.index.layout import PART_BITS
from curate.index.search import scan
from transferset.errors import NumericError


def naive(index, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The definition: every row in float64, an item at its smallest position, by (score to 1e-5, item id)."""
    positions, scores = [], []
    first: dict[bytes, int] = {}
    rows = []
    for part in index.parts:
        for row, identity in enumerate(index.item_ids(part.number)):
            position = part.number << PART_BITS | row
            if first.setdefault(identity.tobytes(), position) == position:
                vector = part.embeddings[row].astype(np.float64)
                rows.append((identity.tobytes(), position, vector / (np.linalg.norm(vector) or 1)))
    for query in queries.astype(np.float64):
        ranked = sorted(
            (-round(min(1, max(-1, float(vector @ query))), 5), identity, position)
            for identity, position, vector in rows
        )[:k]
        padded = [(-score, position) for score, _, position in ranked] + [(0.0, -1)] * (k - len(ranked))
        scores.append([score for score, _ in padded])
        positions.append([position for _, position in padded])
    shape = (len(queries), k)
    return np.array(positions, np.int64).reshape(shape), np.array(scores).reshape(shape)


def assert_same(index, queries, k, engine="exact"):
    positions, scores = index.search(queries, k, engine)
    expected_positions, expected_scores = naive(index, queries, k)
    np.testing.assert_array_equal(positions, expected_positions)
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)
    assert positions.dtype == np.int64
    assert scores.dtype == np.float32


@pytest.mark.parametrize("k", [0, 1, 7, 150, 400])
def test_exact_search_is_the_definition(make_index, unit_rows, k):
    index = open_index(make_index([unit_rows(90, 24, 1), unit_rows(0, 24), unit_rows(130, 24, 2)]))
    assert_same(index, unit_rows(11, 24, 3), k)


@pytest.mark.parametrize("k", [1, 5, 40])
def test_in_small_blocks_with_a_float32_scan_and_groups_of_queries(make_index, unit_rows, monkeypatch, k):
    from curate.index.search import searcher as search

    monkeypatch.setattr(scan, "_LEAST_BLOCK", 16)
    monkeypatch.setattr(scan, "_BLOCK_BYTES", 16 * 24 * 4)
    monkeypatch.setattr(scan, "_SCORES_BYTES", 3 * 16 * 4)
    monkeypatch.setattr(search, "_PAIRS", 200)
    monkeypatch.setattr(search, "_GATHER_COST", 1)
    index = open_index(make_index([unit_rows(700, 24, 1), unit_rows(300, 24, 2)]))
    assert_same(index, unit_rows(11, 24, 3), k)


def test_equal_scores_are_ordered_by_item_id_however_many(make_index, unit_rows):
    same = np.repeat(unit_rows(1, 16, 1), 900, axis=0)
    index = open_index(make_index([same[:500], np.concatenate([unit_rows(300, 16, 2), same[500:]])]))
    query = unit_rows(1, 16, 1)
    assert_same(index, query, 3)
    positions, _ = index.search(query, 300)
    identities = [item.item_id for item in index.items(positions[0])]
    assert identities == sorted(identities)


def test_scores_that_differ_by_less_than_a_step_count_as_equal(make_index):
    angles = np.deg2rad(60) + np.linspace(0, 4e-6, 50)
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    index = open_index(make_index([np.concatenate([rows, -rows])]))
    assert_same(index, np.array([[1, 0]], np.float32), 10)


def test_the_same_item_in_two_parts_counts_once_at_its_smallest_position(make_index, unit_rows):
    rows = unit_rows(6, 8, 1)
    names = [["a", "b", "c"], ["c", "d", "a"]]
    index = open_index(make_index([rows[:3], rows[[2, 4, 0]]], names))
    assert (index.rows, index.distinct) == (6, 4)
    assert_same(index, rows, 6)
    positions, _ = index.search(rows[:1], 6)
    assert positions[0, 0] == 0
    assert sorted(positions[0].tolist())[:2] == [-1, -1]


@pytest.mark.parametrize("gather_cost", [1, 1000], ids=["float32 scan", "float64 scan"])
def test_a_score_does_not_depend_on_what_else_is_searched(make_index, unit_rows, monkeypatch, gather_cost):
    from curate.index.search import searcher as search

    monkeypatch.setattr(search, "_GATHER_COST", gather_cost)
    index = open_index(make_index([unit_rows(500, 64, 1), unit_rows(37, 64, 2)]))
    queries = unit_rows(40, 64, 3)
    together_positions, together = index.search(queries, 20)
    for place, query in enumerate(queries):
        positions, scores = index.search(query[None], 20)
        np.testing.assert_array_equal(positions[0], together_positions[place])
        np.testing.assert_array_equal(scores[0], together[place])
        _, deep = index.search(query[None], 500)
        np.testing.assert_array_equal(deep[0, :20], scores[0])


def test_threads_change_nothing(make_index, unit_rows, monkeypatch):
    from curate.index.search import searcher as search

    monkeypatch.setattr(search, "_GATHER_COST", 1)
    index = open_index(make_index([unit_rows(500, 64, 1)]))
    queries = unit_rows(40, 64, 3)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(index.search(queries, 20))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_array_equal(found[0][1], found[1][1])


@pytest.mark.parametrize("engine", ["exact", "faiss"])
@pytest.mark.parametrize("gather_cost", [1, 1000], ids=["float32 scan", "float64 scan"])
def test_scores_are_cosines_although_stored_rows_are_rounded(
    make_index, unit_rows, monkeypatch, gather_cost, engine
):
    from curate.index.search import searcher as search

    monkeypatch.setattr(search, "_GATHER_COST", gather_cost)
    index = open_index(make_index([unit_rows(300, 12, 1)]))
    stored = index.embeddings(0).astype(np.float64)
    lengths = np.linalg.norm(stored, axis=1, keepdims=True)
    assert np.abs(lengths - 1).max() > 5e-5, "rounding to float16 changes lengths by more than is shown"
    positions, scores = index.search((stored / lengths).astype(np.float32), 3, engine)
    np.testing.assert_array_equal(positions[:, 0], np.arange(300))
    np.testing.assert_allclose(scores[:, 0], 1, atol=1e-6)
    plain = np.round(stored[:40] @ stored.T, 3)  # in an order that ties of the rounded products allow
    for place, found in enumerate(positions[:40]):
        assert (np.diff(plain[place, found]) <= 1e-3).all()


def test_a_row_of_zeros_has_cosine_zero(make_index, unit_rows):
    rows = np.concatenate([np.zeros((1, 8), np.float32), unit_rows(3, 8)])
    index = open_index(make_index([rows]))
    positions, scores = index.search(rows[1:2], 4)
    assert np.isfinite(scores).all()
    assert scores[0][positions[0] == 0] == 0


def test_faiss_gives_the_same(make_index, unit_rows):
    rows = unit_rows(200, 32, 1)
    index = open_index(
        make_index(
            [rows, unit_rows(100, 32, 2), rows[:5]],
            [
                [f"a{n}" for n in range(200)],
                [f"b{n}" for n in range(100)],
                [f"a{n}" for n in range(5)],
            ],
        )
    )
    assert_same(index, unit_rows(9, 32, 3), 25, "faiss")
    assert_same(index, rows[:3], 400, "faiss")


def test_a_query_that_is_not_finite_is_refused(make_index, unit_rows):
    index = open_index(make_index([unit_rows(5, 8)]))
    with pytest.raises(NumericError):
        index.search(np.full((1, 8), np.nan, np.float32), 3)
    with pytest.raises(ValueError, match=r"expected queries \(q, 8\)"):
        index.search(unit_rows(1, 9), 3)
    positions, scores = index.search(np.empty((0, 8), np.float32), 3)
    assert positions.shape == scores.shape == (0, 3)


@pytest.mark.parametrize("k", [1, 9, 200])
def test_blocked_rows_are_passed_over(make_index, unit_rows, k):
    index = open_index(make_index([unit_rows(90, 24, 1), unit_rows(130, 24, 2)]))
    blocked = (np.arange(220) % 3 > 0).astype(np.uint8)
    positions, scores = index.search(unit_rows(5, 24, 3), k, blocked=blocked)
    everything, cosines = index.search(unit_rows(5, 24, 3), 220)
    rows = index._numbering.rows(everything)
    for query in range(5):
        free = blocked[rows[query]] == 0
        expected = everything[query][free][:k]
        assert positions[query][: len(expected)].tolist() == expected.tolist()
        assert scores[query][: len(expected)].tolist() == cosines[query][free][:k].tolist()
        assert (positions[query][len(expected) :] == -1).all()


def test_scores_of_rows_are_those_of_the_search(make_index, unit_rows):
    index = open_index(make_index([unit_rows(90, 24, 1), unit_rows(130, 24, 2)]))
    queries = unit_rows(4, 24, 3)
    positions, scores = index.search(queries, 30)
    assert (index.score(queries, index._numbering.rows(positions)) == scores).all()
