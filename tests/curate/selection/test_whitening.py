from pathlib import Path

import numpy as np
import pytest

from curate.selection.whitening import Whitening
from transferset.errors import DataError


def _rows(count: int, dimension: int = 12) -> np.ndarray:
    rng = np.random.default_rng(1)
    spread = np.linspace(3, 0.1, dimension)
    rows = rng.normal(size=(count, dimension)) * spread + np.arange(dimension)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_what_all_images_share_is_taken_away() -> None:
    rows = _rows(2_000)
    white = Whitening.fit(rows).apply(rows)
    assert np.allclose(np.linalg.norm(white, axis=1), 1, atol=1e-5)
    assert np.abs(rows.mean(axis=0)).max() > 0.3 and np.abs(white.mean(axis=0)).max() < 0.1
    spread = white.std(axis=0)
    before = rows.std(axis=0)
    assert 3 * spread.max() / spread.min() < before.max() / before.min()


def test_fewer_rows_than_dimensions_serve_too() -> None:
    white = Whitening.fit(_rows(5)).apply(_rows(7))
    assert np.isfinite(white).all() and np.allclose(np.linalg.norm(white, axis=1), 1, atol=1e-4)


def test_an_image_without_a_vector_stays_without() -> None:
    views = np.stack([_rows(3), np.zeros((3, 12), np.float32)])
    white = Whitening.fit(_rows(50)).apply(views)
    assert white.shape == (2, 3, 12) and not white[1].any()


def test_it_is_stored_whole(tmp_path: Path) -> None:
    fitted = Whitening.fit(_rows(50))
    (tmp_path / "one").write_bytes(fitted.to_bytes())
    assert np.array_equal(Whitening.load(tmp_path / "one").apply(_rows(4)), fitted.apply(_rows(4)))
    (tmp_path / "one").write_bytes((tmp_path / "one").read_bytes()[:50])
    with pytest.raises(DataError, match="cannot be read"):
        Whitening.load(tmp_path / "one")
