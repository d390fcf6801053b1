"""The scan finds what sorting everything finds, however the rows are cut into blocks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from curate.index.part import Part
from curate.index.search import scan
from curate.index.search.scan import Scan


@pytest.fixture
def part(tmp_path: Path) -> Callable[[np.ndarray], Part]:
    def make(rows: np.ndarray) -> Part:
        np.save(tmp_path / "embeddings.npy", rows.astype(np.float16))
        return Part(0, len(rows), tmp_path, rows.shape[1])

    return make


@pytest.mark.parametrize("rows", [5, 64, 640, 1_003])
@pytest.mark.parametrize("k", [0, 1, 7, 200])
def test_the_best_of_all_rows(
    rows: int,
    k: int,
    part: Callable[[np.ndarray], Part],
    unit_rows: Callable[..., np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scan, "BLOCK_ROWS", 64)
    monkeypatch.setattr(scan, "_LEAST_BLOCK", 32)
    vectors = unit_rows(rows, 16)
    vectors[rows // 2 :] = vectors[: rows - rows // 2]  # every row twice
    stored = part(vectors)
    hidden = np.arange(0, rows, 5)
    queries = torch.from_numpy(unit_rows(9, 16, seed=1)).double()
    values, numbers = Scan([stored], 16, hidden).top(queries, k)

    exact = stored.embeddings.astype(np.float64)
    cosines = queries.numpy() @ (exact / np.linalg.norm(exact, axis=1, keepdims=True)).T
    cosines[:, hidden] = -np.inf
    expected = -np.sort(-cosines, axis=1)[:, :k]
    found = np.sort(values.numpy(), axis=1)[:, ::-1]
    present = np.isfinite(expected).sum(axis=1)
    for row, count in enumerate(present.tolist()):
        np.testing.assert_allclose(found[row, :count], expected[row, :count], atol=1e-12)
        known = numbers[row][numbers[row] >= 0].numpy()
        assert len(known) == len(set(known.tolist())) == count
        np.testing.assert_allclose(np.sort(cosines[row, known])[::-1], expected[row, :count], atol=1e-12)


def test_what_is_better_is_found_in_few_looks() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn((6, 320), generator=generator)
    least = torch.tensor([3.5, 1.0, 9.0, 2.0, 2.5, 3.0])
    scores[0] = 1.0
    found = scan._better(scores, least)
    assert found is not None
    best, where = found
    for row in range(6):
        expected = torch.nonzero(scores[row] > least[row]).flatten()
        present = best[row] > -torch.inf
        assert where[row][present].tolist() == expected.tolist()
        assert best[row][present].tolist() == scores[row][expected].tolist()
    assert scan._better(scores, torch.full((6,), -torch.inf)) is None, "all are better: sort them"
