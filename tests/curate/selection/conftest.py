"""An index in memory with the ranking rules of `curate.index`, for tests of what is built on top of it."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest

from curate.index.ledger import Ledger


@dataclass(frozen=True)
class ArrayPart:
    number: int
    rows: int


class ArrayIndex:
    """Vectors (n, d) and item ids (n, 16) cut into parts; `searches` counts the queries of every search."""

    def __init__(
        self, vectors: np.ndarray, ids: np.ndarray | None = None, cuts: tuple[int, ...] = (), first: int = 0
    ):
        self.stored = normalised(vectors)
        count = len(vectors)
        self.ids = (
            ids if ids is not None else np.random.default_rng(7).integers(0, 256, (count, 16), dtype=np.uint8)
        )
        bounds = [0, *cuts, count]
        self.parts = [ArrayPart(first + 2 * i, b - a) for i, (a, b) in enumerate(pairwise(bounds))]
        self.positions = np.concatenate(
            [(part.number << 32) + np.arange(part.rows, dtype=np.int64) for part in self.parts]
        )
        self._keys = [bytes(one) for one in self.ids]
        self._order = np.argsort(np.array([key.hex() for key in self._keys]), kind="stable")
        self._id_rank = np.argsort(self._order)
        self.forgotten = Ledger()
        self.searches: list[int] = []

    @property
    def dimension(self) -> int:
        return self.stored.shape[1]

    @property
    def id_rank(self) -> np.ndarray:
        return self._id_rank

    @property
    def hidden(self) -> np.ndarray:
        first: dict[bytes, int] = {}
        return np.array([n for n, key in enumerate(self._keys) if first.setdefault(key, n) != n], dtype=int)

    def embeddings(self, part: int) -> np.ndarray:
        return self.stored[(self.positions >> 32) == part]

    def vectors(self, positions: np.ndarray) -> np.ndarray:
        return self.stored[np.searchsorted(self.positions, positions)]

    def score(self, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.round(np.einsum("qd,qmd->qm", queries, self.stored[rows]), 5).astype(np.float32)

    def search(
        self, queries: np.ndarray, k: int, engine: str = "exact", blocked: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        self.searches.append(len(queries))
        scores = np.round(queries @ self.stored.T, 5)
        positions = np.full((len(queries), k), -1, dtype=np.int64)
        cosines = np.full((len(queries), k), -np.inf, dtype=np.float32)
        for q, row in enumerate(scores):
            ranked = np.lexsort((np.arange(len(row)), self._id_rank, -row))
            seen, kept = set(), []
            for one in ranked.tolist():
                if self._keys[one] not in seen:
                    seen.add(self._keys[one])
                    if blocked is None or not blocked[one]:
                        kept.append(one)
            kept = kept[:k]
            positions[q, : len(kept)] = self.positions[kept]
            cosines[q, : len(kept)] = row[kept]
        return positions, cosines

    def find(self, item_id: bytes) -> int | None:
        matches = [row for row, key in enumerate(self._keys) if key == item_id]
        return int(self.positions[matches[0]]) if matches else None

    def item_ids(self, part: int) -> np.ndarray:
        return self.ids[(self.positions >> 32) == part]


def normalised(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def array_index() -> Callable[..., ArrayIndex]:
    """Make an `ArrayIndex` from vectors."""
    return ArrayIndex
