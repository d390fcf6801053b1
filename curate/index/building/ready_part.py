"""Fills one part with ready embeddings: no image is read and no encoder runs."""

from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from curate.index.building.part_writer import NewRow, PartWriter, StatedSize, write_part
from curate.index.layout import part_directory
from curate.index.manifest import FinishedPart, finished_part
from curate.index.plan import Plan
from curate.pools import FORGOTTEN, PoolItem, Problem, Roots, Source
from curate.pools.embeddings import Block, name_id, read_blocks
from transferset.errors import DataError
from transferset.progress import Progress


def scaled(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, d) float32 scaled to length 1 in float32 and rounded to float16, and a mask (n,) of those that
    can be (finite, not zero)."""
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        good = (np.isfinite(norms) & (norms > 0)).ravel()
        return (rows / np.where(good[:, None], norms, 1)).astype(np.float16), good


class ReadyPart(NamedTuple):
    """A part that was made of ready embeddings, how many forgotten rows it leaves out, and what to tell."""

    part: FinishedPart
    forgotten: int
    notes: tuple[str, ...]


def write_ready_part(
    index: Path,
    number: int,
    source: Source,
    obeyed: tuple[Roots, Plan],
    bar: Progress,
    forgotten: Set[bytes],
) -> ReadyPart:
    """Write part `number` of an index from one piece of an embedding file, in bounded memory."""
    roots, plan = obeyed
    about: dict[str, Any] = {
        "fingerprint": plan.fingerprint,
        "encoder_fingerprint": plan.encoder.fingerprint,
        "runtime": {"runtime": "ready embeddings", "precision": "", "version": ""},
    }
    path = Path(roots.locate(source))
    with write_part(index, number, plan.encoder.dimension, about) as writer:
        refused = copy_embeddings(path, source, writer, plan.id_kind, bar, forgotten)
        about["sources"] = [source.to_dict(writer.rows)]
    kept = f"; the {writer.rows} rows before are kept" if writer.rows else ""
    damages = [problem.reason for problem in writer.problems if problem.kind == "source"]
    notes = tuple(f"{path}: {reason}{kept}" for reason in damages)
    return ReadyPart(finished_part(part_directory(index, number)), refused, notes)


def copy_embeddings(
    array: Path, source: Source, writer: PartWriter, id_kind: str, bar: Progress, forgotten: Set[bytes]
) -> int:
    """Write the rows of one piece of an embedding file into `writer`, except those whose id is `forgotten`;
    returns how many these were.

    Rows without a name (URL or path), and those whose embedding can't be scaled, become problems. A pair of
    files that is damaged is a problem too; what came before the damage is kept.
    """
    refused = 0
    try:
        for block in read_blocks(array, source):
            for found in _outcomes(block, source, id_kind, array.stem, forgotten):
                if isinstance(found, NewRow):
                    writer.add(found)
                else:
                    refused += found.kind == "forgotten"
                    writer.problems.append(found)
            bar.advance(len(block.rows))
    except DataError as error:
        writer.problems.append(Problem("source", source, "", error.message))
    return refused


def _outcomes(
    block: Block, source: Source, id_kind: str, stem: str, forgotten: Set[bytes]
) -> Iterator[NewRow | Problem]:
    units, good = scaled(block.embeddings)
    for place, about in enumerate(block.rows):
        number = block.first + place
        name = about.url if id_kind == "url" else about.path
        if name is None:
            yield Problem("image", source, f"{stem}/{number}", f"no {id_kind} in the metadata")
        elif not good[place]:
            zero = not block.embeddings[place].any()
            yield Problem("image", source, name, "zero embedding" if zero else "embedding that is not finite")
        elif (identity := name_id(name)) in forgotten:
            yield Problem("forgotten", source, "", FORGOTTEN)
        else:
            key = name if id_kind == "path" else about.key or f"{stem}/{number}"
            item = PoolItem(key, source, number, 0, about.caption, about.url, about.extra)
            yield NewRow(item, identity, StatedSize(about.width, about.height), 0, units[place])
