"""Indexes of given vectors: the real writer, without images and encoder."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from curate.index.building.finish import finish
from curate.index.building.part_writer import NewRow, write_part
from curate.index.building.stages import Stages
from curate.index.layout import part_directory
from curate.index.manifest import finished_part
from curate.index.options import BuildReport
from curate.index.plan import EncoderPlan, Plan, RuntimePlan, write_plan
from curate.pools import PoolItem, Roots, Source
from transferset.images import Header

MakeIndex = Callable[..., Path]


def plan_of(dimension: int) -> Plan:
    """A plan that no encoder stands behind."""
    encoder = EncoderPlan("embedded", "f" * 64, "w" * 64, dimension, None, 0, {"size": 32})
    return Plan(encoder, RuntimePlan("eager", "f32", "0", "cpu", 4, 1), 1000, {})


def vector_index(
    path: Path, parts: Sequence[np.ndarray], names: Sequence[Sequence[str]] | None = None
) -> Path:
    """An index whose parts hold these rows (n, d); an item's id is the hash of its name, "part/row" by
    default."""
    dimension = parts[0].shape[1]
    plan = plan_of(dimension)
    about = {"fingerprint": plan.fingerprint, "sources": []}
    written = []
    for number, rows in enumerate(parts):
        with write_part(path, number, dimension, dict(about)) as writer:
            for row, vector in enumerate(rows.astype(np.float16)):
                name = names[number][row] if names is not None else f"{number}/{row}"
                item = PoolItem(name, Source(0, f"{name}.jpg", 1, 2), None, 1, caption=f"caption {name}")
                identity = hashlib.sha256(name.encode()).digest()[:16]
                writer.add(NewRow(item, identity, Header("jpeg", 4, 3), row, vector))
        written.append(finished_part(part_directory(path, number)))
    write_plan(path, plan, Roots(path))
    report = BuildReport(path, "embedded", "eager", images=sum(map(len, parts)))
    finish(path, plan, written, report, Stages(), with_faiss=True)
    return path


@pytest.fixture
def plan() -> Plan:
    """A plan that no encoder stands behind: embedded at 32 px, 8 dimensions, batches of 4, 1,000 pixels."""
    return plan_of(8)


@pytest.fixture
def make_index(tmp_path: Path) -> MakeIndex:
    """`make_index([rows, rows], names=None)`: the path of an index of these vectors."""

    def make(
        parts: Sequence[np.ndarray], names: Sequence[Sequence[str]] | None = None, name: str = "index"
    ) -> Path:
        return vector_index(tmp_path / name, parts, names)

    return make


@pytest.fixture
def unit_rows() -> Callable[..., np.ndarray]:
    """`unit_rows(n, d, seed=0)`: random rows (n, d) float32 of length 1."""

    def make(rows: int, dimension: int, seed: int = 0) -> np.ndarray:
        vectors = np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    return make
