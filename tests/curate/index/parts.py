"""Parts of given rows, by the real writer, without images and encoder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from curate.index.building.part_writer import NewRow, write_part
from curate.index.layout import part_directory
from curate.index.manifest import FinishedPart, finished_part
from curate.pools import PoolItem, Problem, Source
from transferset.copies import item_id
from transferset.images import Header

DIMENSION = 4


def source_of(path: Path, pool: Path, root: int = 0) -> Source:
    """A file of a pool as it is now."""
    status = path.stat()
    return Source(root, path.relative_to(pool).as_posix(), status.st_size, status.st_mtime_ns)


def part_of(
    index: Path,
    number: int,
    rows: Sequence[tuple[Source, int | None, bytes]],
    problems: Sequence[Problem] = (),
    **about: Any,
) -> FinishedPart:
    """A part of these rows: source, offset of the image in it, and the image's bytes."""
    counts: dict[Source, int] = {source: 0 for source, _, _ in rows if source.holds_many}
    for source, _, _ in rows:
        if source.holds_many:
            counts[source] += 1
    facts: Mapping[str, Any] = {
        "fingerprint": "f" * 64,
        "encoder_fingerprint": "e" * 64,
        "runtime": {},
        "sources": [source.to_dict(count) for source, count in counts.items()],
        **about,
    }
    with write_part(index, number, DIMENSION, dict(facts)) as writer:
        writer.problems.extend(problems)
        for row, (source, offset, data) in enumerate(rows):
            item = PoolItem(f"{number}/{row}", source, offset, len(data))
            vector = np.full(DIMENSION, row + 10 * number, np.float16)
            writer.add(NewRow(item, item_id(data), Header("jpeg", 4, 3), row, vector))
    return finished_part(part_directory(index, number))
