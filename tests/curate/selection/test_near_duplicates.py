import numpy as np

from curate.selection.near_duplicates import suspicious_pairs
from curate.selection.thresholds import Thresholds


def _rows(count: int, dimension: int = 96) -> np.ndarray:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(count, dimension)) + 1
    rows[1::7] = rows[::7][: len(rows[1::7])] + 0.2 * rng.normal(size=rows[1::7].shape)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def test_no_close_pair_is_ruled_out_by_the_bound() -> None:
    rows, alike = _rows(700), np.zeros(700, np.uint64)
    found = {pair[:2] for pair in suspicious_pairs(rows, alike, Thresholds(0.9, 0.95, 0.5, 0.6))}
    cosines = rows.astype(np.float32) @ rows.astype(np.float32).T
    wanted = {(b, a) for a, b in np.argwhere(np.triu(cosines >= 0.901, 1)).tolist()}
    assert len(wanted) == 100 and wanted <= found


def test_unlike_hashes_need_a_higher_cosine() -> None:
    rows = _rows(70)
    hashes = np.random.default_rng(1).integers(0, 1 << 63, 70, np.uint64)
    assert not list(suspicious_pairs(rows, hashes, Thresholds(0.9, 0.9999, 0.5, 0.6)))
    assert len(list(suspicious_pairs(rows, hashes, Thresholds(0.9, 0.9, 0.5, 0.6)))) == 10


def test_what_was_compared_before_is_not_compared_again() -> None:
    rows, alike = _rows(70), np.zeros(70, np.uint64)
    pairs = list(suspicious_pairs(rows, alike, Thresholds(0.9, 0.9, 0.5, 0.6), known=50))
    assert [pair[:2] for pair in pairs] == [(50, 49), (57, 56), (64, 63)]
