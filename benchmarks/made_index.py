"""Indexes of given rows, by the project's own writer; their items have no images."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from curate.index.building.finish import finish
from curate.index.building.part_writer import NewRow, write_part
from curate.index.building.stages import Stages
from curate.index.index import Index, open_index
from curate.index.layout import part_directory
from curate.index.manifest import FinishedPart, finished_part
from curate.index.options import BuildReport
from curate.index.plan import EncoderPlan, Plan, RuntimePlan, write_plan
from curate.pools import PoolItem, Roots, Source
from transferset.images import Header


def plan_of(dimension: int) -> Plan:
    """A plan that no encoder stands behind."""
    encoder = EncoderPlan("embedded", "f" * 64, "w" * 64, dimension, None, 0, {"size": 224})
    return Plan(encoder, RuntimePlan("eager", "f32", "0", "cpu", 64, 1), 100_000_000, {})


def write_index(
    path: Path,
    plan: Plan,
    blocks: Iterable[np.ndarray],
    with_faiss: bool = True,
    asked: tuple[float | None, float | None] = (None, None),
) -> Index:
    """An index with a part for each block of rows (n, d) of length 1; `asked`: memory in GB and recall of its
    FAISS file."""
    finished: list[FinishedPart] = []
    at = 0
    for number, block in enumerate(blocks):
        about = {"fingerprint": plan.fingerprint, "encoder_fingerprint": "", "runtime": {}, "sources": []}
        with write_part(path, number, block.shape[1], about) as writer:
            for row in block.astype(np.float16):
                identity = hashlib.sha256(str(at).encode()).digest()[:16]
                item = PoolItem(str(at), Source(0, f"{at}.jpg", 1, 1), None, 1)
                writer.add(NewRow(item, identity, Header("jpeg", 1, 1), 0, row))
                at += 1
        finished.append(finished_part(part_directory(path, number)))
    write_plan(path, plan, Roots(path))
    stages, report = Stages(), BuildReport(path, plan.encoder.spec, "", images=at)
    finish(path, plan, finished, report, stages, with_faiss, asked)
    if with_faiss:
        print(f"FAISS file made and tuned in {stages.seconds['faiss']:.0f} s: {report.faiss}")
    return open_index(path)
