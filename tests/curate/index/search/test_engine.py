from types import SimpleNamespace

import pytest

from curate.index.search.engine import SERVICE_SECONDS, choose_engine

IVF = {"lists": 4096, "depth": 100, "recall": 0.96, "factory": "IVF4096,SQ8"}


@pytest.mark.parametrize(
    ("rows", "faiss", "queries", "depth", "patience", "engine"),
    [
        (1_000_000, IVF, 1_200, 1_000, 600, "exact"),
        (1_000_000_000, IVF, 1_200, 1_000, 600, "faiss"),
        (1_000_000_000, IVF, 1_200, 2_000, 600, "exact"),
        (1_000_000_000, None, 1_200, 100, 600, "exact"),
        (1_000_000, IVF, 1, 80, SERVICE_SECONDS, "faiss"),
        (24_000, {**IVF, "lists": 0}, 1, 80, SERVICE_SECONDS, "exact"),
    ],
)
def test_exact_unless_it_takes_too_long(rows, faiss, queries, depth, patience, engine):
    index = SimpleNamespace(rows=rows, dimension=512, manifest={"faiss": faiss})
    choice = choose_engine(index, queries, depth, "auto", patience)
    assert choice.engine == engine and f"{rows:,} rows" in choice.reason
    assert choose_engine(index, queries, depth, "faiss", patience).engine == "faiss"
