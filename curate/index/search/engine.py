"""Exact scan or FAISS file: which one a search takes, and why."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from curate.index.index import Engine, Index

AskedEngine = Literal["auto", "exact", "faiss"]
OFFLINE_SECONDS = 600.0
"""A scan that takes less is not worth an approximation when nobody waits for each query."""
SERVICE_SECONDS = 0.25
_FLOPS = 30e9
_BYTES_A_SECOND = 1e9
_DEEPEST = 10
"""FAISS serves searches up to this many times deeper than its recall was measured."""
_SAMPLE = 50


@dataclass(frozen=True)
class EngineChoice:
    """The engine and the reason, in words."""

    engine: "Engine"
    reason: str

    @property
    def sentence(self) -> str:
        """What is going to be done, for the terminal."""
        return f"searching {'exactly' if self.engine == 'exact' else 'by the FAISS file'}: {self.reason}"


def choose_engine(
    index: "Index", queries: int, depth: int, asked: AskedEngine = "auto", patience: float = OFFLINE_SECONDS
) -> EngineChoice:
    """Exact unless the scan of all rows would take longer than `patience` seconds (estimated for two cores)
    and there is a FAISS file with inverted lists whose recall was measured about as deep as `depth`."""
    if asked != "auto":
        return EngineChoice(asked, "as asked for")
    product = 2.0 * queries * index.rows * index.dimension / _FLOPS
    seconds = max(product, 2.0 * index.rows * index.dimension / _BYTES_A_SECOND)
    scan = f"{queries:,} queries on {index.rows:,} rows take about {seconds:.2g} s exactly"
    faiss = index.manifest.get("faiss")
    if seconds <= patience:
        return EngineChoice("exact", scan)
    if not faiss or not faiss.get("lists") or faiss["recall"] is None:
        return EngineChoice("exact", f"{scan}, and there is no FAISS file with inverted lists")
    if depth > _DEEPEST * faiss["depth"]:
        return EngineChoice(
            "exact", f"{scan}, but {depth:,} candidates per query are more than FAISS is suited to"
        )
    return EngineChoice("faiss", f"{scan}; {faiss['factory']} found {faiss['recall']:.3f} of the nearest")


def recall_on(index: "Index", vectors: np.ndarray, depth: int, seed: int = 0) -> dict[str, Any]:
    """Recall of the FAISS file on the target queries themselves, `vectors` (q, d): a seeded sample of them is
    searched exactly too. `depth` is how many results are compared."""
    from curate.index.search.faiss_recall import mean_recall

    count = min(_SAMPLE, len(vectors))
    chosen = np.sort(np.random.default_rng(seed).choice(len(vectors), count, replace=False))
    depth = max(1, min(depth, index.distinct))
    exact, found = (index.search(vectors[chosen], depth, engine)[0] for engine in ("exact", "faiss"))  # type: ignore[arg-type]
    return {"recall": round(mean_recall(exact, found), 4), "depth": depth, "queries": count}
