"""Fills one part: rows and problems, as the encoding pipeline gives them, in the part's order."""

from collections.abc import Iterable, Set

import numpy as np

from curate.encoding.pipeline import Encoded, Unreadable
from curate.index.building.part_writer import NewRow, PartWriter
from curate.pools import FORGOTTEN, PoolItem, Problem
from transferset.progress import Progress


def fill_part(
    outcomes: Iterable[Encoded[PoolItem] | Unreadable[PoolItem]],
    writer: PartWriter,
    bar: Progress,
    forgotten: Set[bytes] = frozenset(),
) -> int:
    """Write what came out of the items of a part, except those whose id is `forgotten`; returns how many
    these were. (They are embedded too: batches must not depend on them.)"""
    unreadable = refused = 0
    for outcome in outcomes:
        item = outcome.item
        if isinstance(outcome, Unreadable):
            unreadable += 1
            writer.problems.append(Problem("image", item.source, item.key, outcome.reason))
            bar.note(f"{unreadable} unreadable in this part")
        elif outcome.item_id in forgotten:
            refused += 1
            writer.problems.append(Problem("forgotten", item.source, "", FORGOTTEN))
        else:
            embedding = outcome.embedding.astype(np.float16)
            writer.add(NewRow(item, outcome.item_id, outcome.header, outcome.perceptual_hash, embedding))
        bar.advance()
    bar.note("")
    return refused
