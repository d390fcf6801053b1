"""Commands of `curate` that look for copies: calibrate and guard."""

from pathlib import Path
from typing import Annotated

import typer

from curate import options
from transferset.console import print_json, print_table, say


def calibrate(
    index: options.Index,
    sample: Annotated[int, typer.Option(min=2, help="Number of pool images to edit and compare.")] = 100,
    pool_root: options.PoolRoots = None,
    workers: options.Workers = None,
    device: options.Device = "auto",
    seed: Annotated[int, typer.Option(help="Seed for the sample and the edits.")] = 0,
    json: options.AsJson = False,
) -> None:
    """Calibrate an index's thresholds for near copies.

    Finds the cosine from which images may be copies, and stores it in the index.
    retrieve does this by itself for an index that was never calibrated.
    """
    from curate.copies.calibration import calibrate as run
    from curate.encoding.pipeline import PipelineOptions
    from curate.index.encoder import IndexEncoder
    from curate.index.index import open_index
    from curate.pools.roots import parse_moved

    opened = open_index(index, parse_moved(pool_root or []))
    report = run(opened, IndexEncoder(opened, device).model, sample, seed, PipelineOptions(workers))
    if json:
        print_json(report.to_dict())
        return
    entry = report.entry
    found, of_copies = entry["copies_found"], f"{entry['copies']:,} edited copies"
    slight, of_slight = entry["slight_copies_found"], f"{entry['slight_copies']:,} slightly edited copies"
    alone, slight_alone = (
        entry["copies_found_by_cosine_alone"],
        entry["slight_copies_found_by_cosine_alone"],
    )
    rows = [
        [
            "leaks are suspected from",
            f"{entry['leak']:.4f}",
            f"{found:.1%} of {of_copies}",
            f"{entry['innocent_pairs_suspected']:.4%} of pairs",
        ],
        ["… without pixels from", f"{entry['leak_alone']:.4f}", f"{alone:.1%}", "none"],
        [
            "duplicates are suspected from",
            f"{entry['duplicate']:.4f}",
            f"{slight:.1%} of {of_slight}",
            f"{entry['innocent_neighbours_suspected']:.1%} of {entry['neighbours']:,} nearest neighbours",
        ],
        [
            "… without pixels from",
            f"{entry['duplicate_alone']:.4f}",
            f"{slight_alone:.1%}",
            "none",
        ],
    ]
    print_table(f"Thresholds of {index}", ["", "cosine", "finds", "false suspects"], rows)


def guard(
    against: Annotated[
        list[Path],
        typer.Option(
            help="Folder whose images must not be in the set, such as val or test. May be repeated."
        ),
    ],
    transfer_set: Annotated[Path, typer.Option(help="Directory of a finished transfer set.")],
    index: Annotated[Path, typer.Option(help="Directory of the index that it was retrieved from.")],
    no_near: options.NoNear = False,
    workers: options.Workers = None,
    device: options.Device = "auto",
    json: options.AsJson = False,
) -> None:
    """Look for copies of test images in a finished set.

    Exit code 0: no copies. 3: copies found; they are listed, and nothing is changed.
    """
    from curate.copies.finished_set import guard as run
    from curate.encoding.pipeline import PipelineOptions
    from curate.index.index import open_index

    report = run(against, transfer_set, open_index(index), not no_near, device, PipelineOptions(workers))
    if json:
        print_json(report.to_dict())
    else:
        rows = [
            [leak.item_id, leak.why, leak.match, *("" if x is None else f"{x:.2f}" for x in scores)]
            for leak in report.leaks
            for scores in [(leak.similarity, leak.agreement)]
        ]
        columns = ["sample", "why", "copy of", "similarity", "pixels agree"]
        print_table(f"{len(rows)} copies among {report.samples:,} samples", columns, rows)
    if report.leaks:
        say(f"{len(report.leaks)} samples are copies of images of {', '.join(map(str, against))}")
        raise typer.Exit(3)
