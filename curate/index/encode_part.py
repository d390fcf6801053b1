"""Fills one part: its items go through the encoding pipeline, rows and problems come out in the part's
order."""

from collections.abc import Set

import numpy as np

from curate.encoding.pipeline import PipelineOptions, Unreadable, encode_items
from curate.index.encoder import OpenEncoder
from curate.index.part_writer import NewRow, PartWriter
from curate.pools import FORGOTTEN, PartReader, Problem
from transferset.console import Progress


def encode_part(
    reader: PartReader,
    writer: PartWriter,
    encoder: OpenEncoder,
    workers: int | None,
    bar: Progress,
    forgotten: Set[bytes] = frozenset(),
) -> int:
    """Read, decode and embed every item of `reader`'s part into `writer`, except those whose id is
    `forgotten`; returns how many these were. (They are embedded too: batches must not depend on them.)"""
    options = PipelineOptions(workers, encoder.plan.max_pixels)
    unreadable = refused = 0
    for outcome in encode_items(encoder.model, reader.items(), reader.read, options):
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
    writer.problems.extend(reader.problems)
    return refused
