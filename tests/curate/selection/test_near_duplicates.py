from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from curate.index.index import Index
from curate.selection import near_duplicates
from curate.selection.near_copies import DECIMALS
from curate.selection.near_duplicates import MOST_SUSPECTS, NearDuplicates, suspicious_pairs
from curate.selection.thresholds import Thresholds


def _rows(count: int, dimension: int = 96) -> np.ndarray:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(count, dimension)) + 1
    rows[1::7] = rows[::7][: len(rows[1::7])] + 0.2 * rng.normal(size=rows[1::7].shape)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def _pairs(rows: np.ndarray, hashes: np.ndarray, thresholds: Thresholds, known: int = 0) -> list[list[int]]:
    gone = np.zeros(len(rows), np.bool_)
    found = np.concatenate(list(suspicious_pairs(rows, hashes, thresholds, known, gone)))
    return found[:, :2].astype(int).tolist()


def test_no_close_pair_is_ruled_out_by_the_bound() -> None:
    rows, alike = _rows(700), np.zeros(700, np.uint64)
    found = {(a, b) for a, b in _pairs(rows, alike, Thresholds(0.9, 0.95, 0.5, 0.6))}
    cosines = rows.astype(np.float32) @ rows.astype(np.float32).T
    wanted = {(b, a) for a, b in np.argwhere(np.triu(cosines >= 0.901, 1)).tolist()}
    assert len(wanted) == 100 and wanted <= found


def test_unlike_hashes_need_a_higher_cosine() -> None:
    rows = _rows(70)
    hashes = np.random.default_rng(1).integers(0, 1 << 63, 70, np.uint64)
    assert not _pairs(rows, hashes, Thresholds(0.9, 0.9999, 0.5, 0.6))
    assert len(_pairs(rows, hashes, Thresholds(0.9, 0.9, 0.5, 0.6))) == 10


def test_what_was_compared_before_is_not_compared_again() -> None:
    rows, alike = _rows(70), np.zeros(70, np.uint64)
    pairs = _pairs(rows, alike, Thresholds(0.9, 0.9, 0.5, 0.6), known=50)
    assert pairs == [[50, 49], [57, 56], [64, 63]]


class _Lookalikes:
    """An index of rows that all are suspects of each other; `pictures` (n,) says which show the same."""

    dimension = 64

    def __init__(self, pictures: list[int]) -> None:
        rng = np.random.default_rng(0)
        rows = rng.normal(size=64) + 0.1 * rng.normal(size=(len(pictures), 64))
        self.rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
        self.pictures = pictures

    def items(self, positions: np.ndarray) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(position=at, perceptual_hash=7, item_id=b"%016d" % at)
            for at in positions.tolist()
        ]

    def vectors(self, positions: np.ndarray) -> np.ndarray:
        return self.rows[positions]


def _checked(
    pictures: list[int], monkeypatch: pytest.MonkeyPatch, known: int = 0
) -> tuple[list[int], NearDuplicates]:
    """The items that stay, and what compared them."""
    index = _Lookalikes(pictures)
    checks = NearDuplicates(cast(Index, index), Thresholds(0.9, 0.99, 0.5, 0.9), workers=2)
    monkeypatch.setattr(
        checks, "_agreement", lambda a, b: float(pictures[a.position] == pictures[b.position])
    )
    order = np.arange(len(pictures))
    removed = checks.among(order[:known])
    staying = np.setdiff1d(order, [one.position for one in removed])
    removed += checks.among(staying)
    stays = np.setdiff1d(order, [one.position for one in removed])
    matches = {int(bytes.fromhex(one.match or "")) for one in removed}
    assert matches <= set(stays.tolist()), "an item left for one that has left itself"
    return stays.tolist(), checks


@pytest.mark.parametrize("copies", [2, 10, 30, 60])
def test_of_copies_of_one_picture_the_first_stays(copies: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stays, checks = _checked([0] * copies, monkeypatch)
    assert stays == [0]
    assert checks.compared <= 12 * copies


def test_copies_across_blocks_and_rounds_leave_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "_BLOCK", 16)
    assert _checked([0] * 100, monkeypatch)[0] == [0]
    assert _checked([0] * 100, monkeypatch, known=37)[0] == [0]


def test_a_copy_among_the_most_similar_that_stay_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = np.random.default_rng(2).integers(0, 4, 80).tolist()
    monkeypatch.setattr(near_duplicates, "_BLOCK", 32)
    stays, checks = _checked(pictures, monkeypatch)
    rows = checks._index.rows.astype(np.float32)  # type: ignore[attr-defined]
    for place, item in enumerate(stays):
        suspects = sorted(stays[:place], key=lambda one: -np.round(rows[item] @ rows[one], DECIMALS))
        assert pictures[item] not in [pictures[one] for one in suspects[:MOST_SUSPECTS]]
    assert len(stays) < 40
    assert checks.compared <= 12 * len(pictures)
